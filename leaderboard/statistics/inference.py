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
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from leaderboard.statistics import student_t
from leaderboard.statistics.variance import LEVEL, Spread, quantile, unbiased

CANDIDATE = 1.9
"""Differences of fewer standard errors are significant at no degrees of freedom."""
MANY = 200
"""Entries from which a board is compared in single precision."""
LEAST = 1e-100
"""No p-value is told to be less than this, but 0 where there is no chance at all."""
LINES = 2**15
"""Pairs that are looked at together."""
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


def moderated(between: Array, freedom: Array) -> tuple[Array, Array]:
    """Variances between seeds (entries,), each drawn towards what is usual among them by as much as they are alike, and the
    degrees of freedom that they then have.

    The moderated variances of Smyth (2004), of those entries that seeds make a difference to.
    """
    moved = between > 0
    if moved.sum() < POOLED:
        return between, freedom
    halves = freedom[moved] / 2
    deviation = np.log(between[moved]) - each(student_t.digamma, halves) + np.log(halves)
    excess = float(deviation.var(ddof=1) - each(student_t.trigamma, halves).mean())
    before = 2 * inverse_trigamma(excess) if excess > 0 else 1e6
    usual = float(np.exp(deviation.mean() + student_t.digamma(before / 2) - np.log(before / 2)))
    drawn = (before * usual + freedom * between) / (before + freedom)
    return np.where(moved, drawn, between), np.where(moved, before + freedom, freedom)


def each(function: Callable[[float], float], values: Array) -> Array:
    """Of an array with few different values."""
    different, which = np.unique(values, return_inverse=True)
    return np.array([function(float(value)) for value in different])[which]


def inverse_trigamma(value: float) -> float:
    """x with trigamma(x) = value, by Newton's method as in Smyth (2004)."""
    if value > 1e7:
        return float(value**-0.5)
    x = 0.5 + 1 / value
    for _ in range(50):
        now = student_t.trigamma(x)
        step = now * (1 - now / value) / student_t.tetragamma(x)
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


def blocks(count: int) -> Iterator[slice]:
    """Rows of a square array, few enough at a time for what is made of them to stay in the processor's cache: new arrays of
    megabytes take over ten times as long as the arithmetic in them."""
    height = max(LINES // max(count, 1), 1)
    for start in range(0, count, height):
        yield slice(start, min(start + height, count))


class Pairs:
    """All pairs of a board's entries: how much their differences owe to chance, and which of them are more than that.

    ``replicates`` (entries, draws) are those of one board: each column is the same draw for all. Seeds of different entries have
    nothing to do with each other.
    """

    def __init__(self, scores: Array, replicates: Array, spreads: Sequence[Spread]) -> None:
        count, draws = replicates.shape
        kept = precision(count)
        self.scores = scores
        self.units = max(min([draws, *(spread.units for spread in spreads)]) - 1, 1)
        between, interaction, freedom = np.array([(s.between, s.interaction, s.freedom) for s in spreads]).T
        between, self.freedom = moderated(between, freedom)
        self.seeds = np.maximum(between - interaction, 0).astype(kept)
        centred = replicates - replicates.mean(axis=1, keepdims=True)
        centred *= math.sqrt(2 * unbiased(self.units + 1) / max(draws - 1, 1))
        centred = centred.astype(kept, copy=False)
        together = centred @ centred.T
        own = np.diag(together) / 2
        for rows in blocks(count):
            part = together[rows]
            np.subtract(own, part, out=part)
            part += own[rows, None]
            np.maximum(part, 0, out=part)
        self.sampling = together
        """Of the differences' variances (entries, entries), what other samples would bring."""

    def least(self, level: float, first: Any, second: Any) -> Any:
        """The least difference between an entry and another that is significant at this level. Elementwise, uncorrected."""
        sampling, parts = self.sampling[first, second], self.parts(level)
        reach = sampling * quantile(self.units, level) + parts[first] + parts[second]
        return divided(reach, np.sqrt(sampling + self.seeds[first] + self.seeds[second]))

    def significant(self, level: float, first: Array, second: Array) -> Array:
        """Which of these pairs differ at this level, each taken alone (pairs,)."""
        return np.asarray(np.abs(self.scores[first] - self.scores[second]) > self.least(level, first, second))

    def parts(self, level: float) -> Array:
        """What each entry's seeds (entries,) add to that, before it is divided by the standard error."""
        quantiles = each(lambda freedom: quantile(freedom, level), self.freedom)
        return np.asarray(quantiles.astype(self.seeds.dtype) * self.seeds)

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
        known = [max(student_t.tail(wanted, freedom), LEAST) for _, freedom in weights]
        return math.exp(root(beyond, math.log(min(known)), math.log(max(known))))

    def separated(self) -> Array:
        """Which pairs differ, (entries, entries) bool: at most one board in twenty has a pair in it that does not.

        Each pair is tested, with Holm's correction (1979).
        """
        count = len(self.scores)
        kept = self.sampling.dtype.type
        scores = (self.scores - self.scores.mean()).astype(kept)  # their differences are what must be kept

        def level(rejected: int) -> float:
            return (1 - LEVEL) / max(count * (count - 1) // 2 - rejected, 1)

        parts, of_samples = self.parts(level(0)), kept(quantile(self.units, level(0)))
        found, near = np.zeros((2, count, count), dtype=bool)
        for rows in blocks(count):
            rest = slice(rows.start, None)  # each pair once
            difference = np.abs(scores[rows, None] - scores[rest])
            sampling = self.sampling[rows, rest]
            variance = sampling + self.seeds[rows, None]
            variance += self.seeds[rest]
            away = np.sqrt(variance)
            away *= difference
            reach = sampling * of_samples
            reach += parts[rows, None]
            reach += parts[rest]
            # Where there is no chance at all, the least difference counts.
            apart = np.triu(np.where(variance > 0, away > reach, difference > 0), 1)
            variance *= kept(CANDIDATE)
            found[rows, rest], near[rows, rest] = apart, np.triu(away > variance, 1) & ~apart
        first, second = np.divmod(np.flatnonzero(near), count)
        rejected = int(found.sum())
        # Left are those that would be significant if all others were; what rejections allow is tried until they allow no other.
        hopeful = self.significant(level(rejected + len(first)), first, second)
        first, second = first[hopeful], second[hopeful]
        while (reached := self.significant(level(rejected), first, second)).any():
            found[first[reached], second[reached]] = True
            rejected += int(reached.sum())
            first, second = first[~reached], second[~reached]
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
