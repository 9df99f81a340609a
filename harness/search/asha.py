"""Rungs: at some of its reports a trial is held against all that came there, and a third of them goes on (Li et al. 2020, the
stopping form of ASHA).

Early losses need not tell how a trial ends: under a learning rate that rises first, those that are to end worst may lead. So the
first trials go to their ends, and at a rung where they did not stand as they ended no other is ended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

FACTOR = 3
"""Each rung is so many times as far as the one before it, and one in so many trials goes on from it."""
FIRST = 2
"""The first rung, in reports of a trial."""
LAST = 0.5
"""From this share of a full fit on a trial is left to finish: what it still costs is less than what is thrown away."""
PROVEN = 0.7
"""A rung is heeded where in so many of all pairs the trial that ended better was ahead there."""
ENOUGH = 5
"""Trials from which that can be told."""


class Rungs:
    """The losses that trials brought to each rung: the lowest so far, not the last, since its weights are the ones that are kept,
    and it is less noisy. Not thread-safe.

    Rungs are steps, counted from ``first``. Trials of numbers below ``whole`` go to their ends, and the rungs have to prove
    themselves on them; at 0 none needs to. Trials that arrive together are judged together, so that their order is of no matter.
    """

    def __init__(self, first: int = FIRST, whole: int = 0) -> None:
        self.first, self.whole = first, whole
        self.losses: dict[int, dict[int, float]] = {}
        self.ends: dict[int, float] = {}
        """What the first trials came to, by number; less is better."""
        self.full = math.inf
        """The steps of the longest trial that was finished."""

    def is_rung(self, step: int) -> bool:
        while step > self.first and step % FACTOR == 0:
            step //= FACTOR
        return step == self.first

    def arrive(self, step: int, losses: Mapping[int, float]) -> set[int]:
        """The numbers among those arriving with these lowest losses that are to end at this step."""
        if not losses or not self.is_rung(step) or step >= LAST * self.full:
            return set()
        known = self.losses.setdefault(step, {})
        known |= losses
        if self.whole and not self.proven(step):
            return set()
        enough = sorted(known.values())[max(len(known) // FACTOR, 1) - 1]
        return {number for number in losses if known[number] > enough and number >= self.whole}

    def proven(self, step: int) -> bool:
        """Whether the first trials stood at this step as they ended."""
        known = self.losses.get(step, {})
        ended = [(known[number], end) for number, end in self.ends.items() if number in known]
        return len(ended) >= ENOUGH and agreement(ended) >= PROVEN

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


def agreement(pairs: Sequence[tuple[float, float]]) -> float:
    """In which share of all twos of these both numbers say the same of which is smaller; 1 where they are all equal in one."""
    told = [(a, b) for a, b in combinations(pairs, 2) if a[0] != b[0] and a[1] != b[1]]
    return sum((a[0] < b[0]) == (a[1] < b[1]) for a, b in told) / len(told) if told else 1.0


def lowest(losses: Sequence[float | None]) -> float:
    """The lowest of these losses, infinite where none is a number."""
    return min((loss for loss in losses if loss is not None and math.isfinite(loss)), default=math.inf)
