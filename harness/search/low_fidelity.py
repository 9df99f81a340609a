"""Drafts: every trial is first fitted for a tenth of its epochs, and those that promise most are fitted whole, from the start.

This is successive halving (Jamieson and Talwalkar 2016) with fits of growing budget: in a draft the learning rate rises and falls
as in a whole fit, which tells more than the first epochs of a whole one. Under a rate that rises first, those lead early that are
to end worst.

What is best after little learning leans to one side, mostly to high learning rates. So the drafts are not taken at their word: what
whole fits came to tells how much a draft counts and to which side to lean against it, by a linear regression on the draft and the
hyperparameters with a prior that believes the draft.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from harness.contract import Array, Distribution
from harness.search.asha import agreement

DRAFT = 0.1
"""The budget of a draft. The first trials are drafted a second time, with twice of it."""
TWICE, ENOUGH = 6, 5
"""Trials that are drafted twice, and how many of them can tell whether drafts mean anything."""
PROVEN = 0.85
"""Drafts are heeded where in so many pairs of these both drafts say the same of which is better. (Where drafts told nothing of how
trials ended it was .7, elsewhere .93 and more.)"""
CHEAP = 0.25
"""Nor are they where they take more than this share of a whole fit, since that has few epochs."""
WORTHY, FEWEST = 1 / 12, 4
"""The share of trials that is fitted whole, and at least so many: with the drafts a quarter of what all would cost."""
KNOWN = 3
"""Whole fits from which there is something to learn of drafts."""
BELIEF, LEANING, NOISE = 0.4, 3.0, 0.3
"""Standard deviations of the prior of what a draft counts for, of what hyperparameters do, and of what is left. The unit is the
distance from the best draft to the best quarter of them."""
FURTHEST = 8.0
"""What is foreseen to be farther from the best than so many units is bad, and that is all."""


BAD = 2.0
"""Beyond so many units what is foreseen is sure enough."""


@dataclass(frozen=True)
class Foreseen:
    """What a trial should come to, in units from the best; less is better. Where it was fitted ``whole`` it has."""

    params: Mapping[str, Any]
    value: float
    whole: bool


class Drafts:
    """What trials came to as drafts, by budget (in tenths) and number, and whole; less is better. Not thread-safe."""

    def __init__(self, n_trials: int, space: Mapping[str, Distribution]) -> None:
        self.share, self.space = max(WORTHY, FEWEST / n_trials), space
        self.values: dict[int, dict[int, float]] = {1: {}, 2: {}}
        self.reports: dict[int, dict[int, int]] = {1: {}, 2: {}}
        self.rows: dict[int, Array] = {}
        self.ends: dict[int, float] = {}
        """What trials came to that were fitted whole, drafted or not."""
        self.lengths: dict[int, int] = {}
        """The reports of whole fits."""
        self.went: set[int] = set()
        """Trials that were chosen."""
        self.free = 0
        """Places of chosen trials that failed, which nobody has taken yet."""

    def take(self, number: int, budget: int, value: float, reports: int, params: Mapping[str, Any]) -> None:
        """A trial came to this value as a draft, after so many reports."""
        self.values[budget][number] = value
        self.reports[budget][number] = reports
        if number not in self.rows:
            self.rows[number] = row(self.space, params)

    def end(self, number: int, value: float, reports: int) -> None:
        """A trial was fitted whole. The plug-in's own guess is in any case, and takes nobody's place."""
        self.ends[number], self.lengths[number] = value, reports
        if number:
            self.went.add(number)

    def drop(self, number: int) -> None:
        """A trial failed: it takes nobody's place."""
        for budget in self.values:
            self.values[budget].pop(number, None)
        self.free += number in self.went
        self.went.discard(number)

    @property
    def proven(self) -> bool | None:
        """Whether drafts are to be heeded, None where it is not known yet."""
        once, again = self.values[1], self.values[2]
        twice = once.keys() & again.keys()
        if len(twice) < ENOUGH:
            return None
        short, longer = (sum(self.reports[budget][number] for number in twice) for budget in (1, 2))
        both = self.reports[1].keys() & self.lengths.keys()
        drafts, whole = (sum(counts[number] for number in both) for counts in (self.reports[1], self.lengths))
        if longer <= short or drafts > CHEAP * whole:
            return False
        return agreement([(once[number], again[number]) for number in twice]) >= PROVEN

    @property
    def known(self) -> bool:
        """Whether enough was fitted whole to learn from."""
        return len(self.ends.keys() & self.values[1].keys()) >= KNOWN

    def foreseen(self) -> dict[int, float]:
        """What each trial should come to if it were fitted whole, or has come to, on a scale of its own; less is better."""
        numbers = list(self.values[1])
        if not numbers:
            return {}
        drafts = np.array([self.values[1][number] for number in numbers])
        best = drafts.min()
        unit = max(float(np.quantile(drafts, 0.25) - best), 1e-6 * float(np.ptp(drafts))) or 1.0
        drafts = (drafts - best) / unit
        if not self.known:
            return dict(zip(numbers, drafts.tolist()))
        x = np.column_stack([np.ones(len(drafts)), drafts, np.stack([self.rows[number] for number in numbers])])
        whole = [place for place, number in enumerate(numbers) if number in self.ends]
        least = min(self.ends.values())
        came = {number: min((end - least) / unit, FURTHEST) for number, end in self.ends.items()}
        ends = np.array([came[numbers[place]] for place in whole])
        mean = np.array([0.0, 1.0, *np.zeros(x.shape[1] - 2)])
        spread = np.array([LEANING, BELIEF, *np.full(x.shape[1] - 2, LEANING)])
        # The mean of the posterior of a linear regression, of which the prior is normal.
        seen = x[whole]
        precision = seen.T @ seen / NOISE**2 + np.diag(spread**-2)
        weights = mean + np.linalg.solve(precision, seen.T @ (ends - seen @ mean) / NOISE**2)
        return dict(zip(numbers, np.minimum(x @ weights, FURTHEST).tolist())) | came

    def choose(self, drafted: Collection[int]) -> set[int]:
        """Those of these trials that are worth a whole fit: the best of all that are known, as many as their share allows. Who was
        chosen stays so."""
        foreseen = self.foreseen()
        enough = sorted(foreseen.values())[self.most - 1]
        good = sorted((foreseen[number], number) for number in drafted if foreseen[number] <= enough)
        before = self.went.intersection(drafted)
        chosen = [number for _, number in good if number not in before][: max(self.most - len(self.went), 0)]
        self.went |= set(chosen)
        return before | set(chosen)

    def choose_again(self, drafted: Collection[int]) -> set[int]:
        """Of these trials, which were not chosen, those that are next, as many as chosen ones have failed."""
        foreseen = self.foreseen()
        places = min(self.free, max(self.most - len(self.went), 0))
        chosen = sorted(drafted, key=lambda number: foreseen[number])[:places]
        self.free -= len(chosen)
        self.went |= set(chosen)
        return set(chosen)

    @property
    def most(self) -> int:
        """How many may be chosen of those that are known."""
        return max(math.floor(self.share * len(self.values[1]) + 1e-9), 1)


def row(space: Mapping[str, Distribution], params: Mapping[str, Any]) -> Array:
    """Hyperparameters as numbers from -1 to 1, float64 (k,): a choice has one for each."""
    found: list[float] = []
    for name, one in space.items():
        if isinstance(one, CategoricalDistribution):
            found += [1.0 if choice == params[name] else 0.0 for choice in one.choices]
        else:
            assert isinstance(one, (FloatDistribution, IntDistribution))
            bounds = one.low, one.high, params[name]
            low, high, value = map(math.log, bounds) if one.log else bounds
            found.append((2 * value - low - high) / (high - low) if high > low else 0.0)
    return np.array(found)
