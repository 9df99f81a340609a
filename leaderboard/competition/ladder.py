"""The Ladder: a public score that changes only when an entry is better by more than noise (Blum and Hardt 2015).

A board that releases exact scores can be overfitted without a model: the scores of a thousand random predictions reveal the labels
by majority vote. A board that hides differences within noise reveals almost nothing to such entries.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from leaderboard.statistics.inference import Array


@dataclass(frozen=True)
class LadderEntry:
    """Exact public score of an entry, with ``losses`` (public samples,), the contributions of the public samples to it.

    For a metric that is not a mean, ``losses`` is None and ``error``, the standard error of the score, is used instead.
    """

    score: float
    losses: Array | None
    error: float


def release_scores(entries: Iterable[LadderEntry], *, higher_is_better: bool) -> list[tuple[float, bool]]:
    """Return one pair for each entry of one team: the public score after the entry, and True if the entry changed it."""
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
    """Return True if ``entry`` beats the released score by more than the standard error of its difference from ``best``.

    ``best`` is the entry behind the released score.
    """
    gain = entry.score - released if higher_is_better else released - entry.score
    return gain > standard_error(entry, best)


def standard_error(entry: LadderEntry, best: LadderEntry | None) -> float:
    """Return the standard error of the score difference between two entries on the public samples.

    Without ``best``, or for a metric that is not a mean, it is the standard error of the score of ``entry`` alone.
    """
    if entry.losses is None:
        return entry.error
    n = len(entry.losses)
    differences = entry.losses if best is None or best.losses is None else entry.losses - best.losses
    return float(np.std(differences, ddof=1)) / math.sqrt(n) if n > 1 else math.inf


def round_to_noise(score: float, noise: float) -> float:
    """Return a score rounded to two significant digits of ``noise``, its standard error; unchanged for a noise of 0 or infinity."""
    if not 0 < noise < math.inf:
        return score
    digits = 1 - math.floor(math.log10(noise))
    return round(score, digits)
