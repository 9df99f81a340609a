"""The Ladder: a public score that moves only when an entry is better by more than noise (Blum and Hardt 2015).

A board that tells every score precisely can be climbed without a model: from the scores of a thousand random answers the labels
can be voted together. A board that stays silent about what is within noise tells nearly nothing to such an entry.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Climb:
    """One entry as the Ladder takes it: its exact score on the public part, and what each public sample contributes to that.

    ``losses`` is None for a metric that is no mean, and ``error``, the standard error of the score, stands in.
    """

    score: float
    losses: Array | None
    error: float


def released(climbs: Iterable[Climb], *, higher_is_better: bool) -> list[tuple[float, bool]]:
    """After each entry of one team: its public score, and whether this entry moved it."""
    best: Climb | None = None
    shown = 0.0
    told = []
    for climb in climbs:
        moved = best is None or is_better(climb, best, shown, higher_is_better=higher_is_better)
        if moved:
            best, shown = climb, rounded(climb.score, step(climb, None))
        told.append((shown, moved))
    return told


def is_better(climb: Climb, best: Climb, shown: float, *, higher_is_better: bool) -> bool:
    """Whether an entry is better than the score that is shown by more than the standard error of its difference from the best."""
    gain = climb.score - shown if higher_is_better else shown - climb.score
    return gain > step(climb, best)


def step(climb: Climb, best: Climb | None) -> float:
    """The standard error of the difference of two entries on the public part; of the entry's own score where it is the first."""
    if climb.losses is None:
        return climb.error
    n = len(climb.losses)
    against = climb.losses if best is None or best.losses is None else climb.losses - best.losses
    return float(np.std(against, ddof=1)) / math.sqrt(n) if n > 1 else math.inf


def rounded(score: float, noise: float) -> float:
    """A score without the digits that are all noise."""
    if not 0 < noise < math.inf:
        return score
    digits = 1 - math.floor(math.log10(noise))
    return round(score, digits)
