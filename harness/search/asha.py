"""Asynchronous successive halving (ASHA, the stopping form; Li et al. 2020): only the best third of the trials passes each rung.

A rung is a step at which trials are compared. Early losses may mislead: while the learning rate still rises, the trials that end
worst may lead. So the first trials are never pruned, and a rung prunes other trials only if the first trials ranked at the rung
about as they ranked at their end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

REDUCTION_FACTOR = 3
"""Ratio of the step of a rung to the step of the rung before. Of this many trials, one is promoted from a rung."""
FIRST_RUNG = 2
"""Number of reports of a trial at the first rung."""
LAST_RUNG_SHARE = 0.5
"""Share of the steps of a full fit from which on no trial is pruned: its remaining cost is less than the work that would be thrown
away."""
MIN_RUNG_CONCORDANCE = 0.7
"""Smallest concordance (0 to 1) between the losses at a rung and the final values at which the rung may prune."""
MIN_RUNG_TRIALS = 5
"""Smallest number of finished trials from which the concordance of a rung is computed."""


class Rungs:
    """Losses of a search's trials at each rung, from which it follows which trials to prune. Not thread-safe.

    The rungs are the steps ``first``, 3 * ``first``, 9 * ``first`` and so on. A step is a number of reports, or of ninths of the
    training split. The loss of a trial at a rung is its lowest so far: it belongs to the weights that are kept, and is less noisy
    than the last loss.

    Trials with numbers below ``full_fits`` are never pruned; a rung prunes others only if these first trials show that it is
    reliable. With ``full_fits=0`` every rung prunes. Trials that are passed in one call are compared together, so that their order
    does not matter.
    """

    def __init__(self, first: int = FIRST_RUNG, full_fits: int = 0) -> None:
        self.first, self.full_fits = first, full_fits
        self.losses: dict[int, dict[int, float]] = {}
        """Lowest loss so far, by step of the rung and by trial number."""
        self.finals: dict[int, float] = {}
        """Final values of the finished trials below ``full_fits``, by trial number; lower is better."""
        self.full_length = math.inf
        """Steps of the longest finished trial; infinite until one is finished."""

    def is_rung(self, step: int) -> bool:
        while step > self.first and step % REDUCTION_FACTOR == 0:
            step //= REDUCTION_FACTOR
        return step == self.first

    def losers(self, step: int, losses: Mapping[int, float]) -> set[int]:
        """Record the lowest losses, by trial number, of trials that have reached a step; return the numbers of the trials to prune.

        Nothing is recorded and the set is empty if the step is not a rung or comes too late in a full fit.
        """
        if not losses or not self.is_rung(step) or step >= LAST_RUNG_SHARE * self.full_length:
            return set()
        at_rung = self.losses.setdefault(step, {})
        at_rung |= losses
        if self.full_fits and not self.is_reliable(step):
            return set()
        threshold = sorted(at_rung.values())[max(len(at_rung) // REDUCTION_FACTOR, 1) - 1]
        return {number for number in losses if at_rung[number] > threshold and number >= self.full_fits}

    def is_reliable(self, step: int) -> bool:
        """Tell whether the first trials ranked at a step about as they ranked at their end. False while too few have ended."""
        at_rung = self.losses.get(step, {})
        pairs = [(at_rung[number], final) for number, final in self.finals.items() if number in at_rung]
        return len(pairs) >= MIN_RUNG_TRIALS and concordance(pairs) >= MIN_RUNG_CONCORDANCE

    def restore(self, number: int, losses: Sequence[float | None], value: float | None) -> None:
        """Load a recorded trial: the losses that it reported, None where not finite, and its final value, None if it has none."""
        for step in range(1, len(losses) + 1):
            if self.is_rung(step):
                self.losses.setdefault(step, {})[number] = lowest_loss(losses[:step])
        if value is not None:
            self.record_final(number, len(losses), value)

    def record_final(self, number: int, steps: int, value: float) -> None:
        """Record the final value of a trial that ran to its end in ``steps`` steps; lower is better."""
        if number < self.full_fits:
            self.finals[number] = value
        if steps:
            self.full_length = max(steps, 0 if math.isinf(self.full_length) else self.full_length)


def concordance(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the share of pairs of items that two values order the same way (Kendall concordance, without ties), 0 to 1.

    ``pairs`` holds the two values of each item. The result is 1 if all pairs of items are tied.
    """
    untied = [(a, b) for a, b in combinations(pairs, 2) if a[0] != b[0] and a[1] != b[1]]
    return sum((a[0] < b[0]) == (a[1] < b[1]) for a, b in untied) / len(untied) if untied else 1.0


def lowest_loss(losses: Sequence[float | None]) -> float:
    """Return the lowest finite loss; infinity if there is none."""
    return min((loss for loss in losses if loss is not None and math.isfinite(loss)), default=math.inf)
