"""Asynchronous successive halving (ASHA, the stopping form; Li et al. 2020): each rung promotes the best third of its trials.

Early losses may mislead: while the learning rate still rises, the trials that end worst may lead. So the first trials are never
pruned, and a rung prunes others only if the first trials ranked there as they ranked at their end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

REDUCTION_FACTOR = 3
"""Ratio of each rung to the rung before it; one in so many trials is promoted from a rung."""
FIRST_RUNG = 2
"""First rung, in reports of a trial."""
LAST_RUNG_SHARE = 0.5
"""Share of a full fit from which on no trial is pruned: its remaining cost is less than the work that would be thrown away."""
MIN_RUNG_CONCORDANCE = 0.7
"""Concordance of the losses at a rung with the final losses from which on the rung prunes."""
MIN_RUNG_TRIALS = 5
"""Finished trials from which on that concordance is computed."""


class Rungs:
    """Losses of trials at each rung. Not thread-safe.

    The loss at a rung is a trial's lowest so far: it belongs to the weights that are kept, and is less noisy than the last.

    A rung is a step: a number of reports, or ninths of the training split. ``first`` is the lowest. Trials with numbers below
    ``full_fits`` are never pruned and calibrate the rungs; at 0 the rungs need no calibration. Trials that are passed together are
    compared together, so that their order does not matter.
    """

    def __init__(self, first: int = FIRST_RUNG, full_fits: int = 0) -> None:
        self.first, self.full_fits = first, full_fits
        self.losses: dict[int, dict[int, float]] = {}
        """Losses by step and trial number."""
        self.finals: dict[int, float] = {}
        """Final values of the first trials, by number; lower is better."""
        self.full_length = math.inf
        """Steps of the longest finished trial; infinite until one is finished."""

    def is_rung(self, step: int) -> bool:
        while step > self.first and step % REDUCTION_FACTOR == 0:
            step //= REDUCTION_FACTOR
        return step == self.first

    def losers(self, step: int, losses: Mapping[int, float]) -> set[int]:
        """Record the lowest losses of trials that have reached this step; return the numbers of the trials to prune."""
        if not losses or not self.is_rung(step) or step >= LAST_RUNG_SHARE * self.full_length:
            return set()
        at_rung = self.losses.setdefault(step, {})
        at_rung |= losses
        if self.full_fits and not self.is_reliable(step):
            return set()
        threshold = sorted(at_rung.values())[max(len(at_rung) // REDUCTION_FACTOR, 1) - 1]
        return {number for number in losses if at_rung[number] > threshold and number >= self.full_fits}

    def is_reliable(self, step: int) -> bool:
        """Tell whether the first trials ranked at this step as they ranked at their end."""
        at_rung = self.losses.get(step, {})
        pairs = [(at_rung[number], final) for number, final in self.finals.items() if number in at_rung]
        return len(pairs) >= MIN_RUNG_TRIALS and concordance(pairs) >= MIN_RUNG_CONCORDANCE

    def restore(self, number: int, losses: Sequence[float | None], value: float | None) -> None:
        """Load the reports of a recorded trial, and its final value unless it is None."""
        for step in range(1, len(losses) + 1):
            if self.is_rung(step):
                self.losses.setdefault(step, {})[number] = lowest_loss(losses[:step])
        if value is not None:
            self.record_final(number, len(losses), value)

    def record_final(self, number: int, steps: int, value: float) -> None:
        """Record the final value of a trial that ran to its end in so many steps; lower is better."""
        if number < self.full_fits:
            self.finals[number] = value
        if steps:
            self.full_length = max(steps, 0 if math.isinf(self.full_length) else self.full_length)


def concordance(pairs: Sequence[tuple[float, float]]) -> float:
    """Fraction of pairs that both values order the same way (Kendall concordance, without ties); 1 if all pairs are tied."""
    untied = [(a, b) for a, b in combinations(pairs, 2) if a[0] != b[0] and a[1] != b[1]]
    return sum((a[0] < b[0]) == (a[1] < b[1]) for a, b in untied) / len(untied) if untied else 1.0


def lowest_loss(losses: Sequence[float | None]) -> float:
    """Return the lowest finite loss; infinite if there is none."""
    return min((loss for loss in losses if loss is not None and math.isfinite(loss)), default=math.inf)
