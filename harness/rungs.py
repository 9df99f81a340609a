"""Successive halving: which of the trials that come to a rung may go on (Li et al. 2020, the stopping form of ASHA).

A rung is a step, counted in reports of a trial, at which its lowest loss so far is held against those of all trials that came there
with it or before it; a third of them goes on. (The lowest, not the last: its weights are the ones that are kept, and it is less
noisy.) Trials that arrive together are judged together, so that their order is of no matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

FIRST, FACTOR = 2, 3
"""The first rung, in steps; each further one is FACTOR times as far, and one of FACTOR trials goes on from it."""
LAST = 0.5
"""A trial this near to the end of a full one is left to finish: what it still costs is less than what is thrown away."""


class Rungs:
    """The losses that trials brought to each rung. Not thread-safe."""

    def __init__(self, first: int = FIRST, factor: int = FACTOR) -> None:
        self.first, self.factor = first, factor
        self.losses: dict[int, dict[int, float]] = {}
        self.full = math.inf
        """The steps of the longest trial that was finished."""

    def is_rung(self, step: int) -> bool:
        while step > self.first and step % self.factor == 0:
            step //= self.factor
        return step == self.first

    def arrive(self, step: int, losses: Mapping[int, float]) -> set[int]:
        """The numbers among those arriving with these lowest losses that are to end at this step."""
        if not self.is_rung(step) or step >= LAST * self.full:
            return set()
        known = self.losses.setdefault(step, {})
        known |= losses
        enough = sorted(known.values())[max(len(known) // self.factor, 1) - 1]
        return {number for number in losses if known[number] > enough}

    def restore(self, number: int, losses: Sequence[float | None], *, finished: bool) -> None:
        """Take up what a trial on record has reported."""
        for step in range(1, len(losses) + 1):
            if self.is_rung(step):
                self.losses.setdefault(step, {})[number] = lowest(losses[:step])
        if finished:
            self.finished(len(losses))

    def finished(self, steps: int) -> None:
        """A trial came to its end after so many steps."""
        if steps:
            self.full = max(steps, 0 if math.isinf(self.full) else self.full)


def lowest(losses: Sequence[float | None]) -> float:
    """The lowest of these losses, infinite where none is a number."""
    return min((loss for loss in losses if loss is not None and math.isfinite(loss)), default=math.inf)
