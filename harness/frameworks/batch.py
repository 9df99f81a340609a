"""Protocol of submissions that fit several configurations in one vectorized fit. It imports no framework.

The child server asks `can_fit_many` of every submission, and calls ``fit_many`` in a fork. `harness.frameworks.torch` has both
methods of the protocol, so that plug-ins need no code for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Generic, NamedTuple, Protocol, TypeGuard, TypeVar

from harness.contract import Split

Model = TypeVar("Model")

Report = Callable[[Mapping[int, float]], set[int]]
"""Callback: takes the validation losses of an epoch by member number; returns the numbers of the members to prune."""


class FitManyResult(NamedTuple, Generic[Model]):
    """Members of a vectorized fit by outcome, under their numbers: a member's number is its place in ``makers``.

    ``fitted`` holds the fitted models. Pruned members are in no field.
    """

    fitted: Mapping[int, Model]
    rejected: Mapping[int, str]
    """Reasons, by member number, for members that have to be fitted alone."""
    postponed: AbstractSet[int]
    """Numbers of members that were left out because a fit of all would take long. They can be fitted later, or never."""


class FitsMany(Protocol):
    """Class of a submission that fits several configurations at once."""

    @classmethod
    def supports_fit_many(cls) -> bool:
        """Return whether `fit_many` gives the same results as single fits. The server calls this once, before it forks."""
        ...

    @classmethod
    def fit_many(
        cls, makers: Sequence[Callable[[], Any]], train: Split, valid: Split, report: Report, max_members: int
    ) -> FitManyResult[Any]:
        """Fit a model from each of ``makers`` as its own ``fit`` would; return the models, and the members without one.

        A maker seeds all generators and returns an unfitted model. ``report`` is called after each epoch. If a fit of all members
        would take long, only the first ``max_members`` are fitted, and the others are postponed.
        """
        ...


class Postponed:
    """Type of `POSTPONED`, the mark of a trial that a vectorized fit left for later."""


POSTPONED = Postponed()
"""Mark of a postponed trial, where a rejected trial has a text as its reason. Compare with ``is``."""


def can_fit_many(submission: type) -> TypeGuard[type[FitsMany]]:
    """Return True if a submission class has the methods of `FitsMany` and its ``supports_fit_many`` returns True."""
    return hasattr(submission, "fit_many") and bool(getattr(submission, "supports_fit_many", bool)())
