"""Confidence intervals over hidden samples and seeds, and paired tests of entries on the same samples.

A score is a mean over seeds and hidden samples, crossed: every seed predicts every sample. Its variance is that of a two-way layout
with random effects (Searle, Casella and McCulloch 1992).

- The sampling variance comes from bootstrap replicates. All entries of a task use the same draws, so the variance of a difference
  is the variance of the difference of replicates (Efron and Tibshirani 1993). A board is compared pair by pair without its samples.
- The seed variance comes from few seeds: three seeds give two degrees of freedom. Quantiles of Student's t are weighted by
  Cochran's rule (1964). The entries of a board share information about the seed variance (Smyth 2004).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leaderboard.statistics import student_t
from leaderboard.statistics.variance import SIGNIFICANCE_LEVEL, ScoreVariance, bias_correction, quantile

CANDIDATE_STANDARD_ERRORS = 1.9
"""Lower bound, in standard errors, of a difference that is significant at the 5 % level; it holds at any degrees of freedom."""
SINGLE_PRECISION_ENTRIES = 200
"""Number of entries from which on a board is compared in single precision."""
MIN_P_VALUE = 1e-100
"""Smallest p-value reported; only a difference without variance has p = 0."""
BLOCK_PAIRS = 2**15
"""Number of pairs of entries in one block of rows (see `row_blocks`)."""
MIN_POOLED_ENTRIES = 4
"""Smallest number of entries with seed variance from which a board estimates a common prior."""
Array = NDArray[Any]


def seed_variances(values: Array, block: int = 1) -> tuple[float, float]:
    """Return ``between`` and ``interaction`` of a `ScoreVariance`, given each sample's contribution to the score (seeds, samples).

    Both are 0 for a single seed. Dependent neighbours are averaged in blocks of ``block`` samples.
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


def interval(score: float, variance: ScoreVariance, *, proportion: bool = False) -> tuple[float, float]:
    """Return the bounds (low, high) of the 95 % interval of a score.

    A ``proportion``, the mean of zeros and ones, gets Wilson's interval (1927) with the effective sample size of Kish (1965). This
    interval stays within 0..1, and has a width even if every prediction is right.
    """
    t = variance.quantile
    if not proportion:
        half = t * variance.total**0.5
        return score - half, score + half
    n, odds = float(max(variance.units, 1)), score * (1 - score)
    if variance.total > 0:
        n = max(min(odds / variance.total, n * (variance.freedom + 1)), 1.0)
    middle = (score + t * t / (2 * n)) / (1 + t * t / n)
    half = t / (1 + t * t / n) * (odds / n + t * t / (4 * n * n)) ** 0.5
    # At 0 and 1 the bounds are exact but for rounding.
    return 0.0 if score == 0 else max(middle - half, 0.0), 1.0 if score == 1 else min(middle + half, 1.0)


def moderate_variances(between: Array, freedom: Array) -> tuple[Array, Array]:
    """Return variances between seeds (entries,) shrunk towards a common prior, and their new degrees of freedom (entries,).

    The results are the moderated variances of Smyth (2004). Variances of 0 stay as they are, and so do all if fewer than
    `MIN_POOLED_ENTRIES` are above 0.
    """
    varying = between > 0
    if varying.sum() < MIN_POOLED_ENTRIES:
        return between, freedom
    halves = freedom[varying] / 2
    deviation = np.log(between[varying]) - map_distinct(student_t.digamma, halves) + np.log(halves)
    excess = float(deviation.var(ddof=1) - map_distinct(student_t.trigamma, halves).mean())
    prior_freedom = 2 * inverse_trigamma(excess) if excess > 0 else 1e6
    prior_variance = float(np.exp(deviation.mean() + student_t.digamma(prior_freedom / 2) - np.log(prior_freedom / 2)))
    shrunk = (prior_freedom * prior_variance + freedom * between) / (prior_freedom + freedom)
    return np.where(varying, shrunk, between), np.where(varying, prior_freedom + freedom, freedom)


def map_distinct(function: Callable[[float], float], values: Array) -> Array:
    """Return an array of ``function`` of each value of a 1-D array. The function is called once for each distinct value."""
    distinct, positions = np.unique(values, return_inverse=True)
    return np.array([function(float(value)) for value in distinct])[positions]


def inverse_trigamma(value: float) -> float:
    """Return the x > 0 with trigamma(x) = value, by Newton's method as in Smyth (2004)."""
    if value > 1e7:
        return float(value**-0.5)
    x = 0.5 + 1 / value
    for _ in range(50):
        current = student_t.trigamma(x)
        step = current * (1 - current / value) / student_t.tetragamma(x)
        x += step
        if -step / x < 1e-8:
            break
    return x


def find_root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return the root of an increasing function between ``low`` and ``high``, by the Illinois method.

    If there is no root in between, return the end that is nearer to it.
    """
    at_low, at_high = function(low), function(high)
    if at_low >= 0 or at_high <= 0:
        return low if at_low >= 0 else high
    last_side = 0
    for _ in range(100):
        middle = (low * at_high - high * at_low) / (at_high - at_low)
        at_middle = function(middle)
        if abs(at_middle) < 1e-10 or high - low < 1e-10:
            break
        if at_middle < 0:
            low, at_low, at_high = middle, at_middle, at_high / (2 if last_side < 0 else 1)
        else:
            high, at_high, at_low = middle, at_middle, at_low / (2 if last_side > 0 else 1)
        last_side = 1 if at_middle > 0 else -1
    return middle


def comparison_dtype(count: int) -> type[np.floating[Any]]:
    """Return the type in which a board of ``count`` entries is compared: float32 from `SINGLE_PRECISION_ENTRIES` on, or float64."""
    return np.float64 if count < SINGLE_PRECISION_ENTRIES else np.float32


def divide_or_zero(numerator: Array, deviation: Array) -> Array:
    """Return ``numerator / deviation`` elementwise, 0 where the deviation is 0."""
    return np.divide(numerator, deviation, out=np.zeros_like(numerator), where=deviation > 0)


def row_blocks(count: int) -> Iterator[slice]:
    """Yield slices that cut the rows of a (count, count) array into blocks small enough for the processor's cache.

    Temporary arrays of megabytes take ten times as long to allocate as the arithmetic takes.
    """
    height = max(BLOCK_PAIRS // max(count, 1), 1)
    for start in range(0, count, height):
        yield slice(start, min(start + height, count))


class Pairs:
    """Paired tests of all pairs of a board's entries, which have independent seeds.

    ``scores`` (entries,) are the scores. ``replicates`` (entries, draws) are bootstrap scores; each column is the same draw of
    hidden samples for all entries. ``variances`` has the components of each score's variance.
    """

    def __init__(self, scores: Array, replicates: Array, variances: Sequence[ScoreVariance]) -> None:
        count, draws = replicates.shape
        dtype = comparison_dtype(count)
        self.scores = scores
        self.units = max(min([draws, *(variance.units for variance in variances)]) - 1, 1)
        between, interaction, freedom = np.array(
            [(variance.between, variance.interaction, variance.freedom) for variance in variances]
        ).T
        between, self.freedom = moderate_variances(between, freedom)
        self.seed_variance = np.maximum(between - interaction, 0).astype(dtype)
        centred = replicates - replicates.mean(axis=1, keepdims=True)
        centred *= math.sqrt(2 * bias_correction(self.units + 1) / max(draws - 1, 1))
        centred = centred.astype(dtype, copy=False)
        covariance = centred @ centred.T
        half_variances = np.diag(covariance) / 2
        for rows in row_blocks(count):
            block = covariance[rows]
            np.subtract(half_variances, block, out=block)
            block += half_variances[rows, None]
            np.maximum(block, 0, out=block)
        self.sampling_variance = covariance
        """Variance of the difference of each pair of entries (entries, entries) that is due to the draw of hidden samples."""

    def critical_difference(self, level: float, first: Any, second: Any) -> Any:
        """Return the smallest significant difference at a level between the entries with indices ``first`` and ``second``.

        Arrays of indices give an array of differences. There is no correction for multiple tests.
        """
        sampling, seed_terms = self.sampling_variance[first, second], self.seed_terms(level)
        threshold = sampling * quantile(self.units, level) + seed_terms[first] + seed_terms[second]
        return divide_or_zero(threshold, np.sqrt(sampling + self.seed_variance[first] + self.seed_variance[second]))

    def significant(self, level: float, first: Array, second: Array) -> Array:
        """Return (pairs,) bool: True where the entries with indices ``first`` and ``second`` differ significantly at ``level``.

        Each pair is tested alone, without correction for multiple tests.
        """
        return np.asarray(
            np.abs(self.scores[first] - self.scores[second]) > self.critical_difference(level, first, second)
        )

    def seed_terms(self, level: float) -> Array:
        """Return the terms (entries,) of the seeds in `critical_difference`, before its division by the standard error."""
        quantiles = map_distinct(lambda freedom: quantile(freedom, level), self.freedom)
        return np.asarray(quantiles.astype(self.seed_variance.dtype) * self.seed_variance)

    def p_value(self, a: int, b: int) -> float:
        """Return the two-sided p-value of the pair of entries with indices ``a`` and ``b``, not corrected for multiple tests.

        It is the lowest level at which the two entries differ significantly.
        """
        difference = float(abs(self.scores[a] - self.scores[b]))
        components = [(float(self.sampling_variance[a, b]), float(self.units))]
        components += [
            (float(self.seed_variance[entry]), float(self.freedom[entry]))
            for entry in (a, b)
            if self.seed_variance[entry] > 0
        ]
        variance = sum(weight for weight, _ in components)
        if difference == 0 or variance == 0:
            return float(difference == 0)
        observed = difference / math.sqrt(variance)

        def excess(log_level: float) -> float:
            """Return the observed difference minus the critical one at the level exp(``log_level``), both in standard errors."""
            level = math.exp(log_level)
            return observed - sum(weight * quantile(freedom, level) for weight, freedom in components) / variance

        # The p-value lies between those with the fewest and with the most degrees of freedom for all components.
        tails = [max(student_t.tail(observed, freedom), MIN_P_VALUE) for _, freedom in components]
        return math.exp(find_root(excess, math.log(min(tails)), math.log(max(tails))))

    def significant_pairs(self) -> Array:
        """Return (entries, entries) bool: True for each pair that differs significantly after Holm's correction (1979).

        The family-wise error rate is 5 %: at most one board in twenty has a false difference.
        """
        count = len(self.scores)
        dtype = self.sampling_variance.dtype.type
        scores = (self.scores - self.scores.mean()).astype(
            dtype
        )  # centred, so that single precision keeps the differences

        def holm_level(rejected: int) -> float:
            return SIGNIFICANCE_LEVEL / max(count * (count - 1) // 2 - rejected, 1)

        seed_terms, sampling_quantile = self.seed_terms(holm_level(0)), dtype(quantile(self.units, holm_level(0)))
        significant, candidates = np.zeros((2, count, count), dtype=bool)
        for rows in row_blocks(count):
            rest = slice(rows.start, None)  # each pair once
            difference = np.abs(scores[rows, None] - scores[rest])
            sampling = self.sampling_variance[rows, rest]
            variance = sampling + self.seed_variance[rows, None]
            variance += self.seed_variance[rest]
            distance = np.sqrt(variance)
            distance *= difference
            threshold = sampling * sampling_quantile
            threshold += seed_terms[rows, None]
            threshold += seed_terms[rest]
            # Without variance any difference is significant.
            exceeds = np.triu(np.where(variance > 0, distance > threshold, difference > 0), 1)
            variance *= dtype(CANDIDATE_STANDARD_ERRORS)
            significant[rows, rest], candidates[rows, rest] = exceeds, np.triu(distance > variance, 1) & ~exceeds
        first, second = np.divmod(np.flatnonzero(candidates), count)
        rejected = int(significant.sum())
        # Holm's steps: each rejection raises the level for the pairs left. Only pairs that the highest level could reach are kept.
        possible = self.significant(holm_level(rejected + len(first)), first, second)
        first, second = first[possible], second[possible]
        while (passed := self.significant(holm_level(rejected), first, second)).any():
            significant[first[passed], second[passed]] = True
            rejected += int(passed.sum())
            first, second = first[~passed], second[~passed]
        return np.asarray(significant | significant.T)

    def resolution(self, among: int) -> float | None:
        """Return the typical smallest significant difference of the first ``among`` entries; None for fewer than two entries.

        It is the median critical difference of the pairs of these entries, at the first level of Holm's correction for the board.
        """
        count = len(self.scores)
        if min(among, count) < 2:
            return None
        first, second = np.triu_indices(min(among, count), 1)
        return float(np.median(self.critical_difference(SIGNIFICANCE_LEVEL / (count * (count - 1) / 2), first, second)))
