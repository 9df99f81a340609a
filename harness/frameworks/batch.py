"""Protocol of submissions that fit several configurations in one vectorized fit. It imports no framework.

The child server asks `can_fit_many` of every submission and calls ``fit_many`` in a fork. `harness.frameworks.torch` has both
methods, so that plug-ins need no code for them.
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
    """Members of a vectorized fit by outcome. A member's number is its place in ``makers``; pruned members are in no field."""

    fitted: Mapping[int, Model]
    rejected: Mapping[int, str]
    """Members that have to be fitted alone, with the reason."""
    postponed: AbstractSet[int]
    """Members that were left out because a fit of all would take long. They can be fitted later, or never."""


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
        """Fit a model from each of ``makers`` as its own ``fit`` would.

        A maker seeds all generators and returns an unfitted model. If a fit of all members would take long, only the first
        ``max_members`` are fitted, and the others are postponed.
        """
        ...


class Postponed:
    """Type of `POSTPONED`."""


POSTPONED = Postponed()
"""Mark that stands for a reason where a trial is postponed instead of rejected. Compare with ``is``."""


def can_fit_many(submission: type) -> TypeGuard[type[FitsMany]]:
    """Return whether a submission has the methods of `FitsMany` and supports them."""
    return hasattr(submission, "fit_many") and bool(getattr(submission, "supports_fit_many", bool)())
