"""Description of a submission by its own process, as the parent process has checked it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.contract import Distribution


@dataclass(frozen=True)
class Description:
    """Kinds of task, search space, default hyperparameters and abilities that a submission declares."""

    kinds: tuple[str, ...]
    space: Mapping[str, Distribution]
    defaults: Mapping[str, Any]
    vectorizable: bool = False
    """True if the submission can fit several configurations in one vectorized fit."""
    budget: bool = False
    """True if a fit can be limited to a share of its epochs (`Submission.budget`)."""


def allowed(distribution: Distribution, value: Any) -> bool:
    """Tell whether a hyperparameter's value lies in its distribution."""
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except (TypeError, ValueError):
        return False
