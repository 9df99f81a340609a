"""The Ladder: a public score that moves only when an entry is better by more than noise (Blum and Hardt 2015).

A board that tells every score precisely can be climbed without a model: from the scores of a thousand random answers the labels
can be voted together. A board that stays silent about what is within noise tells nearly nothing to such an entry.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from leaderboard.statistics.inference import Array


@dataclass(frozen=True)
class LadderEntry:
    """One entry as the Ladder takes it: its exact score on the public part, and what each public sample contributes to that.

    ``losses`` is None for a metric that is no mean, and ``error``, the standard error of the score, stands in.
    """

    score: float
    losses: Array | None
    error: float


def release_scores(entries: Iterable[LadderEntry], *, higher_is_better: bool) -> list[tuple[float, bool]]:
    """After each entry of one team: its public score, and whether this entry moved it."""
    best: LadderEntry | None = None
    released = 0.0
    history = []
    for entry in entries:
        moved = best is None or is_better(entry, best, released, higher_is_better=higher_is_better)
        if moved:
            best, released = entry, round_to_noise(entry.score, standard_error(entry, None))
        history.append((released, moved))
    return history


def is_better(entry: LadderEntry, best: LadderEntry, released: float, *, higher_is_better: bool) -> bool:
    """Whether an entry is better than the score that is shown by more than the standard error of its difference from the best."""
    gain = entry.score - released if higher_is_better else released - entry.score
    return gain > standard_error(entry, best)


def standard_error(entry: LadderEntry, best: LadderEntry | None) -> float:
    """The standard error of the difference of two entries on the public part; of the entry's own score where it is the first."""
    if entry.losses is None:
        return entry.error
    n = len(entry.losses)
    differences = entry.losses if best is None or best.losses is None else entry.losses - best.losses
    return float(np.std(differences, ddof=1)) / math.sqrt(n) if n > 1 else math.inf


def round_to_noise(score: float, noise: float) -> float:
    """A score without the digits that are all noise."""
    if not 0 < noise < math.inf:
        return score
    digits = 1 - math.floor(math.log10(noise))
    return round(score, digits)
