"""Records of a search: its settings, and a trial while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SearchConfig:
    """Settings of a search. A search with other settings is another search with its own trials.

    ``first`` are configurations to try right after the plug-in's defaults. ``seed`` seeds the sampler, not the fits. Without
    ``halving`` every trial is a full fit. The names of the fields are part of the key of stored trials.
    """

    first: Sequence[Mapping[str, Any]] = ()
    seed: int = 0
    halving: bool = True


@dataclass
class RunningTrial:
    """Suggested trial that has not ended, and its results so far.

    ``partial`` and ``reports`` are by low fidelity: ninths of the training split, or tenths of the budget. ``partial`` holds
    validation scores, negated where higher is better, and ``reports`` the numbers of reports. ``losses`` are the reported losses of
    the full fit, ``value`` is its validation score, and ``seconds`` is the time of all fits.
    """

    params: Mapping[str, Any]
    full_fidelity: bool = False
    """True if the trial skips the low fidelities."""
    partial: dict[int, float] = field(default_factory=dict)
    reports: dict[int, int] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    members: int | None = None
    """Number of trials in its vectorized fit; None if it is fitted alone."""
    error: str | None = None
    value: float | None = None
    seconds: float = 0.0
