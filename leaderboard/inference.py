"""How sure a score is: intervals over hidden samples and seeds together, and paired tests of entries on the same samples.

A score is a mean over seeds and hidden samples, crossed: every seed answers every sample. Its variance is that of a two-way layout
with random effects (Searle, Casella and McCulloch 1992). The samples' part comes from bootstrap replicates, which all entries of a
task draw alike: the variance of two entries' difference is that of their replicates' difference (Efron and Tibshirani 1993), so
that a board of any size is compared pair by pair without a look at its samples. The seeds' part comes from few seeds, and
what three seeds say of seeds is worth two degrees of freedom: quantiles of Student's t are weighed by Cochran (1964), and a board
of several entries lends each of them what it knows of how much seeds matter (Smyth 2004).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leaderboard import student

LEVEL = 0.95
CANDIDATE = 1.9
"""Differences of fewer standard errors are significant at no degrees of freedom."""
POOLED = 4
"""Entries with seeds that matter from which a board can tell how much seeds usually do."""
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Spread:
    """What a score owes to chance, as variances of that score.

    ``sampling`` is what another draw of hidden samples would bring, of which there are ``units`` that do not depend on each other.
    ``between`` is how much the mean looks to vary between seeds, known with so many degrees of ``freedom``; of that,
    ``interaction`` is due to the samples at hand, on which seeds happen to differ.
    """

    sampling: float
    units: int
    between: float = 0.0
    interaction: float = 0.0
    freedom: float = 1.0

    @property
    def seeds(self) -> float:
        """What other seeds would bring beside other samples."""
        return max(self.between - self.interaction, 0.0)

    @property
    def variance(self) -> float:
        return self.sampling + self.seeds

    @property
    def quantile(self) -> float:
        """How many standard errors the 95 % interval reaches to either side."""
        of_samples, of_seeds = quantile(self.units - 1), quantile(self.freedom)
        if not self.seeds:
            return of_samples
        return (self.sampling * of_samples + self.seeds * of_seeds) / self.variance


def quantile(freedom: float, level: float = 1 - LEVEL) -> float:
    """What Student's t exceeds on either side with a probability of ``level`` in all."""
    return student.quantile(max(freedom, 1.0), level)


def seed_variances(values: Array, block: int = 1) -> tuple[float, float]:
    """``between`` and ``interaction`` of a `Spread`, from per-sample values (seeds, samples).

    Neighbours that depend on each other are taken together, ``block`` at a time.
    """
    n_seeds, n = values.shape
    if n_seeds < 2:
        return 0.0, 0.0
    values = values.astype(np.float64)
    block = min(block, max(n // 2, 1))
    units = values[:, : n // block * block].reshape(n_seeds, -1, block).mean(axis=2)
    residual = units - units.mean(axis=0) - units.mean(axis=1, keepdims=True) + units.mean()
    count = units.shape[1]
    interaction = float(np.square(residual).sum()) / ((n_seeds - 1) * max(count - 1, 1)) / (n_seeds * count)
    return float(values.mean(axis=1).var(ddof=1)) / n_seeds, interaction


def interval(score: float, spread: Spread, *, proportion: bool = False) -> tuple[float, float]:
    """The 95 % interval of a score.

    A ``proportion``, the mean of zeros and ones, gets Wilson's interval (1927) for as many samples as would give it this variance
    (Kish 1965): it stays within 0..1, and has a width where every answer is right.
    """
    t = spread.quantile
    if not proportion:
        half = t * spread.variance**0.5
        return score - half, score + half
    n, odds = float(max(spread.units, 1)), score * (1 - score)
    if spread.variance > 0:
        n = max(min(odds / spread.variance, n * (spread.freedom + 1)), 1.0)
    middle = (score + t * t / (2 * n)) / (1 + t * t / n)
    half = t / (1 + t * t / n) * (odds / n + t * t / (4 * n * n)) ** 0.5
    # At the ends the two are equal but for rounding.
    return 0.0 if score == 0 else max(middle - half, 0.0), 1.0 if score == 1 else min(middle + half, 1.0)


def pooled(spreads: Sequence[Spread]) -> list[Spread]:
    """The same, each one's variance between seeds drawn towards what is usual among them, by as much as they are alike.

    The moderated variances of Smyth (2004), of those entries that seeds make a difference to.
    """
    moved = [place for place, spread in enumerate(spreads) if spread.between > 0]
    found = list(spreads)
    if len(moved) < POOLED:
        return found
    between = np.array([spreads[place].between for place in moved])
    freedom = np.array([spreads[place].freedom for place in moved])
    halves = freedom / 2
    deviation = np.log(between) - np.array([student.digamma(half) for half in halves]) + np.log(halves)
    excess = float(deviation.var(ddof=1) - np.mean([student.trigamma(half) for half in halves]))
    before = 2 * inverse_trigamma(excess) if excess > 0 else 1e6
    usual = float(np.exp(deviation.mean() + student.digamma(before / 2) - np.log(before / 2)))
    drawn = (before * usual + freedom * between) / (before + freedom)
    for place, value, own in zip(moved, drawn, freedom):
        found[place] = replace(spreads[place], between=float(value), freedom=float(before + own))
    return found


def inverse_trigamma(value: float) -> float:
    """x with trigamma(x) = value, by Newton's method as in Smyth (2004)."""
    if value > 1e7:
        return float(value**-0.5)
    x = 0.5 + 1 / value
    for _ in range(50):
        now = student.trigamma(x)
        step = now * (1 - now / value) / student.tetragamma(x)
        x += step
        if -step / x < 1e-8:
            break
    return x


def unbiased(units: int) -> float:
    """What the variance of bootstrap replicates of a mean is multiplied with, where so many units are drawn from."""
    return units / (units - 1) if units > 1 else 1.0


class Pairs:
    """All pairs of a board's entries: how much their differences owe to chance, and which of them are more than that.

    ``replicates`` (entries, draws) are those of one board: each column is the same draw for all. Seeds of different entries have
    nothing to do with each other.
    """

    def __init__(self, scores: Array, replicates: Array, spreads: Sequence[Spread]) -> None:
        count, draws = replicates.shape
        spreads = pooled(spreads)
        centred = replicates - replicates.mean(axis=1, keepdims=True)
        centred = np.ascontiguousarray(centred, dtype=np.float64 if count < 200 else np.float32)
        products = (centred @ centred.T).astype(np.float64) / max(draws - 1, 1)
        alone = np.diag(products)
        self.scores = scores
        self.units = max(min([draws, *(spread.units for spread in spreads)]) - 1, 1)
        self.sampling = np.maximum(alone[:, None] + alone - 2 * products, 0.0) * unbiased(self.units + 1)
        self.seeds = np.array([spread.seeds for spread in spreads])
        self.freedom = [spread.freedom for spread in spreads]
        self.deviation = np.sqrt(self.sampling + self.seeds[:, None] + self.seeds)
        """The standard errors of all differences (entries, entries)."""

    def least(self, level: float, first: Any, second: Any) -> Any:
        """The least difference between an entry and another that is significant at this level. Elementwise, uncorrected."""
        of_seeds = {freedom: quantile(freedom, level) for freedom in set(self.freedom)}
        parts = self.seeds * np.array([of_seeds[freedom] for freedom in self.freedom])
        reach = self.sampling[first, second] * quantile(self.units, level) + parts[first] + parts[second]
        deviation = self.deviation[first, second]
        return np.where(deviation > 0, reach / np.where(deviation > 0, deviation, 1.0), 0.0)

    def p_value(self, a: int, b: int) -> float:
        """Two-sided: the lowest level at which two entries differ, the pair taken alone."""
        difference = abs(self.scores[a] - self.scores[b])
        if difference == 0:
            return 1.0
        low, high = -100.0, 0.0  # of its logarithm
        for _ in range(60):
            middle = (low + high) / 2
            reached = difference > self.least(10.0**middle, a, b)
            low, high = (low, middle) if reached else (middle, high)
        return float(10.0**high)

    def separated(self) -> Array:
        """Which pairs differ, (entries, entries) bool: at most one board in twenty has a pair in it that does not.

        Each pair is tested, with Holm's correction (1979).
        """
        first, second = np.triu_indices(len(self.scores), 1)
        difference = np.abs(self.scores[first] - self.scores[second])
        found = np.zeros((len(self.scores), len(self.scores)), dtype=bool)
        tests, rejected = len(first), 0
        here = np.flatnonzero(difference > CANDIDATE * self.deviation[first, second])
        while len(here):
            # What one more rejection allows is tried on those that are left, until it allows no other.
            reached = difference[here] > self.least((1 - LEVEL) / (tests - rejected), first[here], second[here])
            if not reached.any():
                break
            found[first[here[reached]], second[here[reached]]] = True
            rejected += int(reached.sum())
            here = here[~reached]
        return found | found.T

    def resolution(self, among: int) -> float | None:
        """The difference that two ``among`` so many first entries need to count as one here, None for fewer than two of them.

        The median over their pairs, by what Holm's correction asks of the first.
        """
        count = len(self.scores)
        if min(among, count) < 2:
            return None
        first, second = np.triu_indices(min(among, count), 1)
        return float(np.median(self.least((1 - LEVEL) / (count * (count - 1) / 2), first, second)))
