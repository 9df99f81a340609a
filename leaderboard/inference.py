"""How sure a score is: intervals over hidden samples and seeds together, and paired tests of entries on the same samples.

A score is a mean over seeds and hidden samples, crossed: every seed answers every sample. Its variance is that of a two-way layout
with random effects (Searle, Casella and McCulloch 1992). The samples' part comes from bootstrap replicates, which all entries of a
task draw alike: the variance of two entries' difference is that of their replicates' difference (Efron and Tibshirani 1993), so
that a board of any size is compared pair by pair without a look at its samples. The seeds' part comes from few seeds, and
what three seeds say of seeds is worth two degrees of freedom: quantiles of Student's t are weighed by Cochran (1964), and a board
of several entries lends each of them what it knows of how much seeds matter (Smyth 2004).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from leaderboard import student
from leaderboard.spread import LEVEL, Spread, quantile, unbiased

CANDIDATE = 1.9
"""Differences of fewer standard errors are significant at no degrees of freedom."""
MANY = 200
"""Entries from which a board is compared in single precision."""
LEAST = 1e-100
"""No p-value is told to be less than this, but 0 where there is no chance at all."""
POOLED = 4
"""Entries with seeds that matter from which a board can tell how much seeds usually do."""
Array = np.ndarray[Any, np.dtype[Any]]


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
        one = spreads[place]
        found[place] = Spread(one.sampling, one.units, float(value), one.interaction, float(before + own))
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


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where an increasing function is 0, by the Illinois method; the nearer end where that is not in between."""
    at_low, at_high = function(low), function(high)
    if at_low >= 0 or at_high <= 0:
        return low if at_low >= 0 else high
    before = 0
    for _ in range(100):
        middle = (low * at_high - high * at_low) / (at_high - at_low)
        at = function(middle)
        if abs(at) < 1e-10 or high - low < 1e-10:
            break
        if at < 0:
            low, at_low, at_high = middle, at, at_high / (2 if before < 0 else 1)
        else:
            high, at_high, at_low = middle, at, at_low / (2 if before > 0 else 1)
        before = 1 if at > 0 else -1
    return middle


def precision(count: int) -> type[np.floating[Any]]:
    """What a board of so many entries is compared in: what is far from 0 is no nearer to it in single precision."""
    return np.float64 if count < MANY else np.float32


def divided(reach: Array, deviation: Array) -> Array:
    """0 where there is no chance at all."""
    return np.divide(reach, deviation, out=np.zeros_like(reach), where=deviation > 0)


class Pairs:
    """All pairs of a board's entries: how much their differences owe to chance, and which of them are more than that.

    ``replicates`` (entries, draws) are those of one board: each column is the same draw for all. Seeds of different entries have
    nothing to do with each other.
    """

    def __init__(self, scores: Array, replicates: Array, spreads: Sequence[Spread]) -> None:
        count, draws = replicates.shape
        spreads = pooled(spreads)
        kept = precision(count)
        centred = replicates.astype(kept)
        centred -= centred.mean(axis=1, keepdims=True)
        sampling = centred @ centred.T
        alone = np.diag(sampling).copy()
        sampling *= -2
        sampling += alone
        sampling += alone[:, None]
        self.scores = scores
        self.units = max(min([draws, *(spread.units for spread in spreads)]) - 1, 1)
        sampling *= kept(unbiased(self.units + 1) / max(draws - 1, 1))
        self.sampling = np.maximum(sampling, 0, out=sampling)
        """Of the differences' variances (entries, entries), what other samples would bring."""
        self.seeds = np.array([spread.seeds for spread in spreads], dtype=kept)
        self.freedom = np.array([spread.freedom for spread in spreads])
        self.deviation = self.sampling + self.seeds
        self.deviation += self.seeds[:, None]
        np.sqrt(self.deviation, out=self.deviation)
        """The standard errors of all differences (entries, entries)."""

    def least(self, level: float, first: Any, second: Any) -> Any:
        """The least difference between an entry and another that is significant at this level. Elementwise, uncorrected."""
        parts = self.parts(level)
        reach = self.sampling[first, second] * quantile(self.units, level) + parts[first] + parts[second]
        return divided(reach, self.deviation[first, second])

    def parts(self, level: float) -> Array:
        """What each entry's seeds (entries,) add to that, before it is divided by the standard error."""
        found = np.empty_like(self.seeds)
        for freedom in np.unique(self.freedom):
            found[self.freedom == freedom] = quantile(freedom, level)
        return found * self.seeds

    def p_value(self, a: int, b: int) -> float:
        """Two-sided: the lowest level at which two entries differ, the pair taken alone."""
        difference = float(abs(self.scores[a] - self.scores[b]))
        weights = [(float(self.sampling[a, b]), float(self.units))]
        weights += [(float(self.seeds[one]), float(self.freedom[one])) for one in (a, b) if self.seeds[one] > 0]
        variance = sum(weight for weight, _ in weights)
        if difference == 0 or variance == 0:
            return float(difference == 0)
        wanted = difference / math.sqrt(variance)

        def beyond(log_level: float) -> float:
            """How many standard errors a difference is beyond what is significant at this level."""
            level = math.exp(log_level)
            return wanted - sum(weight * quantile(freedom, level) for weight, freedom in weights) / variance

        # With all of the least freedom it would be at one end, with all of the most at the other.
        known = [max(student.tail(wanted, freedom), LEAST) for _, freedom in weights]
        return math.exp(root(beyond, math.log(min(known)), math.log(max(known))))

    def separated(self) -> Array:
        """Which pairs differ, (entries, entries) bool: at most one board in twenty has a pair in it that does not.

        Each pair is tested, with Holm's correction (1979).
        """
        count = len(self.scores)
        scores = (self.scores - self.scores.mean()).astype(
            self.sampling.dtype
        )  # their differences are what must be kept
        difference = np.abs(scores[:, None] - scores)
        tests = count * (count - 1) // 2
        level = (1 - LEVEL) / max(tests, 1)
        parts = self.parts(level)
        reach = self.sampling * self.sampling.dtype.type(quantile(self.units, level))
        reach += parts
        reach += parts[:, None]
        certain = (self.deviation == 0) & (difference > 0)
        found = np.triu((difference * self.deviation > reach) | certain, 1)
        first, second = np.nonzero(np.triu(difference > CANDIDATE * self.deviation, 1) & ~found)
        # What these rejections allow is tried on those that are left, until they allow no other.
        away = difference[first, second] * self.deviation[first, second]
        sampling = self.sampling[first, second]
        rejected, before = int(found.sum()), 0
        while before < rejected < tests and len(first):
            level = (1 - LEVEL) / (tests - rejected)
            parts = self.parts(level)
            reached = away > sampling * quantile(self.units, level) + parts[first] + parts[second]
            found[first[reached], second[reached]] = True
            before, rejected = rejected, rejected + int(reached.sum())
            first, second, away, sampling = (one[~reached] for one in (first, second, away, sampling))
        return np.asarray(found | found.T)

    def resolution(self, among: int) -> float | None:
        """The difference that two ``among`` so many first entries need to count as one here, None for fewer than two of them.

        The median over their pairs, by what Holm's correction asks of the first.
        """
        count = len(self.scores)
        if min(among, count) < 2:
            return None
        first, second = np.triu_indices(min(among, count), 1)
        return float(np.median(self.least((1 - LEVEL) / (count * (count - 1) / 2), first, second)))
