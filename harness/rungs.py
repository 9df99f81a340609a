"""Successive halving: which of the trials that come to a rung may go on (Li et al. 2020, the stopping form of ASHA).

A rung is a step, counted in reports of a trial, at which its lowest loss so far is held against those of all trials that came there
with it or before it; a share of them goes on. (The lowest, not the last: its weights are the ones that are kept, and it is less
noisy.) Trials that arrive together are judged together, so that their order is of no matter.

Early losses need not tell how a trial ends: under a learning rate that rises first, those that are to end worst may lead. So the
first trials go to their ends, and at a rung where they did not stand as they ended no other is ended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

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
PROVEN, SURE = 0.7, 0.85
"""A rung is heeded where in so many of all pairs the trial that ended better was ahead there; in so many as the second says, only
the last share of its pace goes on from it, as from later ones."""
ENOUGH = 5
"""Trials that have come to their end from which that can be told."""
PARTS = Pace(1, (1 / 3,))
"""For parts of the training split, counted in ninths."""


class Rungs:
    """The losses that trials brought to each rung. Not thread-safe.

    Trials of numbers below ``whole`` go to their ends, and the rungs have to prove themselves on them; at 0 none needs to.
    """

    def __init__(self, pace: Pace = ALONE, whole: int = 0) -> None:
        self.pace, self.whole = pace, whole
        self.losses: dict[int, dict[int, float]] = {}
        self.ends: dict[int, float] = {}
        """What the first trials came to, by number; less is better."""
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
        agreement = self.agreement(step)
        if self.whole and agreement < PROVEN:
            return set()
        share = self.pace.shares[-1 if self.whole and agreement >= SURE else min(place, len(self.pace.shares) - 1)]
        enough = sorted(known.values())[max(int(len(known) * share + 1e-9), 1) - 1]
        return {number for number in losses if known[number] > enough and number >= self.whole}

    def agreement(self, step: int) -> float:
        """In which share of pairs the first trials stood at this step as they ended; 0 where there are too few to tell, 1 where all
        ended alike: then nothing is lost with any."""
        known = self.losses.get(step, {})
        ended = [(known[number], end) for number, end in self.ends.items() if number in known]
        pairs = [(a, b) for a, b in combinations(ended, 2) if a[0] != b[0] and a[1] != b[1]]
        if len(ended) < ENOUGH:
            return 0.0
        return sum((a[0] < b[0]) == (a[1] < b[1]) for a, b in pairs) / len(pairs) if pairs else 1.0

    def restore(self, number: int, losses: Sequence[float | None], value: float | None) -> None:
        """Take up what a trial on record has reported, and the value that it came to, where it did."""
        for step in range(1, len(losses) + 1):
            if self.is_rung(step):
                self.losses.setdefault(step, {})[number] = lowest(losses[:step])
        if value is not None:
            self.finished(number, len(losses), value)

    def finished(self, number: int, steps: int, value: float) -> None:
        """A trial came to its end after so many steps, and to this value; less is better."""
        if number < self.whole:
            self.ends[number] = value
        if steps:
            self.full = max(steps, 0 if math.isinf(self.full) else self.full)


def lowest(losses: Sequence[float | None]) -> float:
    """The lowest of these losses, infinite where none is a number."""
    return min((loss for loss in losses if loss is not None and math.isfinite(loss)), default=math.inf)
