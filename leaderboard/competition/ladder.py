"""The Ladder: a public score that changes only when an entry is better by more than noise (Blum and Hardt 2015).

A board that releases exact scores can be overfitted without a model: the scores of a thousand random predictions reveal the labels
by majority vote. Here a score is told in steps of `STEP_STANDARD_ERRORS`, and moves only by whole steps. That slows such a climb,
and does not end it: docs/competitions.md has figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from leaderboard.statistics.inference import Array

STEP_STANDARD_ERRORS = 3.0
"""Step of a public score, in standard errors of a score on the public samples."""


@dataclass(frozen=True)
class LadderEntry:
    """Exact public score of an entry, with ``losses`` (public samples,), the contributions of the public samples to it.

    For a metric that is not a mean, ``losses`` is None and ``error``, the standard error of the score, is used instead.
    """

    score: float
    losses: Array | None
    error: float


@dataclass
class TeamLadder:
    """Public score of one team as its entries come in. Withdrawn entries belong to it: what they have told stays told."""

    higher_is_better: bool
    best: LadderEntry | None = None
    """Entry that the public score was last told of."""
    released: float = 0.0
    """Public score now."""

    def add(self, entry: LadderEntry) -> bool:
        """Add an entry. Return True if the public score has changed."""
        step = step_of(entry)
        told = round_to_worse(entry.score, step, higher_is_better=self.higher_is_better)
        gain = told - self.released if self.higher_is_better else self.released - told
        if self.best is not None and gain <= max(step / 2, standard_error(entry, self.best)):
            return False
        self.best, self.released = entry, told
        return True


def release_scores(entries: Iterable[LadderEntry], *, higher_is_better: bool) -> list[tuple[float, bool]]:
    """Compute the public score after each entry of one team, and whether that entry changed it."""
    team = TeamLadder(higher_is_better)
    history = []
    for entry in entries:
        moved = team.add(entry)
        history.append((team.released, moved))
    return history


def step_of(entry: LadderEntry) -> float:
    """Step in which an entry's score is told: `STEP_STANDARD_ERRORS`, rounded up to two digits so that equals share a grid."""
    step = STEP_STANDARD_ERRORS * standard_error(entry, None)
    if not 0 < step < math.inf:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(step)) - 1)
    return math.ceil(step / unit - 1e-9) * unit


def standard_error(entry: LadderEntry, best: LadderEntry | None) -> float:
    """Return the standard error of the score difference between two entries on the public samples.

    Without ``best``, or for a metric that is not a mean, it is the standard error of the score of ``entry`` alone.
    """
    if entry.losses is None:
        return entry.error
    n = len(entry.losses)
    differences = entry.losses if best is None or best.losses is None else entry.losses - best.losses
    return float(np.std(differences, ddof=1)) / math.sqrt(n) if n > 1 else math.inf


def round_to_worse(score: float, step: float, *, higher_is_better: bool) -> float:
    """Round a score to a multiple of ``step``, to the worse side, so that a chance gain is not told as one; 0 keeps the score."""
    if not step:
        return score
    digits = max(0, 2 - math.floor(math.log10(step)))
    nearest = score / step + (1e-9 if higher_is_better else -1e-9)
    return round((math.floor(nearest) if higher_is_better else math.ceil(nearest)) * step, digits)
