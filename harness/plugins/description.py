"""Description of a submission by itself, as the parent has checked it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.contract import Distribution


@dataclass(frozen=True)
class Description:
    """What a submission says of itself, checked."""

    kinds: tuple[str, ...]
    space: Mapping[str, Distribution]
    defaults: Mapping[str, Any]
    vectorizable: bool = False
    """True if it can fit several configurations in one vectorized fit."""
    budget: bool = False
    """Whether a fit can be told to take a share of its epochs."""


def allowed(distribution: Distribution, value: Any) -> bool:
    """Whether a value can be drawn from a distribution."""
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except (TypeError, ValueError):
        return False
