"""Successive halving: which of the trials that come to a rung may go on (Li et al. 2020, the stopping form of ASHA).

A rung is a step, counted in reports of a trial, at which its lowest loss so far is held against those of all trials that came there
with it or before it; a share of them goes on. (The lowest, not the last: its weights are the ones that are kept, and it is less
noisy.) Trials that arrive together are judged together, so that their order is of no matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FACTOR = 3
"""Each rung is so many times as far as the one before it."""
LAST = 0.5
"""From this share of a full fit on a trial is left to finish: what it still costs is less than what is thrown away."""


@dataclass(frozen=True)
class Pace:
    """The ``first`` rung, in steps, and the share of trials that goes on from it and each further one; the last share holds on."""

    first: int
    shares: tuple[float, ...]


ALONE = Pace(2, (1 / 3,))
"""Where every trial costs what it costs."""
STACKED = Pace(3, (2 / 3, 1 / 3))
"""Where one more in a stack costs little, and early losses say little of trials that are all good."""
PARTS = Pace(1, (1 / 3,))
"""For parts of the training split, counted in ninths."""


class Rungs:
    """The losses that trials brought to each rung. Not thread-safe."""

    def __init__(self, pace: Pace = ALONE) -> None:
        self.pace = pace
        self.losses: dict[int, dict[int, float]] = {}
        self.full = math.inf
        """The steps of the longest trial that was finished."""

    def is_rung(self, step: int) -> bool:
        return self.place(step) is not None

    def place(self, step: int) -> int | None:
        """How many rungs are before the one at this step, None where there is none."""
        place = 0
        while step > self.pace.first and step % FACTOR == 0:
            step, place = step // FACTOR, place + 1
        return place if step == self.pace.first else None

    def arrive(self, step: int, losses: Mapping[int, float]) -> set[int]:
        """The numbers among those arriving with these lowest losses that are to end at this step."""
        place = self.place(step)
        if place is None or not losses or step >= LAST * self.full:
            return set()
        known = self.losses.setdefault(step, {})
        known |= losses
        share = self.pace.shares[min(place, len(self.pace.shares) - 1)]
        enough = sorted(known.values())[max(int(len(known) * share + 1e-9), 1) - 1]
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
