"""Variance of a score. Imports no numpy: a board of one entry needs none, and the import would dominate its time."""

from __future__ import annotations

from typing import NamedTuple

from leaderboard.statistics import student_t

CONFIDENCE = 0.95
"""Coverage of every interval."""
SIGNIFICANCE_LEVEL = 0.05
"""Probability of a false difference that tests allow."""


class ScoreVariance(NamedTuple):
    """Components of the variance of a score.

    ``sampling_variance`` is due to the draw of hidden samples, ``units`` of which are independent. ``between`` is the observed
    variance of the mean between seeds, estimated with ``freedom`` degrees of freedom; ``interaction`` is the part of it that comes
    from the finite number of hidden samples.
    """

    sampling_variance: float
    units: int
    between: float = 0.0
    interaction: float = 0.0
    freedom: float = 1.0

    @property
    def seed_variance(self) -> float:
        """Part due to the draw of seeds, without the interaction."""
        return max(self.between - self.interaction, 0.0)

    @property
    def total(self) -> float:
        """Variance of the score."""
        return self.sampling_variance + self.seed_variance

    @property
    def quantile(self) -> float:
        """Half width of the 95 % interval in standard errors: t quantiles weighted by their variances (Cochran 1964)."""
        sampling_quantile, seed_quantile = quantile(self.units - 1), quantile(self.freedom)
        if not self.seed_variance:
            return sampling_quantile
        return (self.sampling_variance * sampling_quantile + self.seed_variance * seed_quantile) / self.total


def quantile(freedom: float, level: float = SIGNIFICANCE_LEVEL) -> float:
    """Two-sided quantile of Student's t: |t| exceeds it with probability ``level``; at least one degree of freedom."""
    return student_t.quantile(max(freedom, 1.0), level)


def bias_correction(units: int) -> float:
    """Factor n / (n - 1) that makes the variance of bootstrap replicates of a mean unbiased."""
    return units / (units - 1) if units > 1 else 1.0
