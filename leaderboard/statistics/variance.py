"""Variance of a score. Imports no numpy: a board of one entry needs none, and the import would dominate its time."""

from __future__ import annotations

from typing import NamedTuple

from leaderboard.statistics import student_t

CONFIDENCE = 0.95
"""Coverage of every interval: the probability that it contains the true value."""
SIGNIFICANCE_LEVEL = 0.05
"""Probability with which a test may report a difference that does not exist."""


class ScoreVariance(NamedTuple):
    """Components of the variance of a score, which is a mean over seeds and hidden samples.

    ``sampling_variance`` is due to the draw of hidden samples, ``units`` of which are independent. ``between`` is the observed
    variance of the mean over seeds, estimated from the differences between seeds with ``freedom`` degrees of freedom.
    ``interaction`` is the part of ``between`` that comes from the finite number of hidden samples.
    """

    sampling_variance: float
    units: int
    between: float = 0.0
    interaction: float = 0.0
    freedom: float = 1.0

    @property
    def seed_variance(self) -> float:
        """Part of the variance due to the draw of seeds: ``between`` without the interaction."""
        return max(self.between - self.interaction, 0.0)

    @property
    def total(self) -> float:
        """Variance of the score: its sampling part plus its seed part."""
        return self.sampling_variance + self.seed_variance

    @property
    def quantile(self) -> float:
        """Half width of the 95 % interval in standard errors: t quantiles, weighted by the variances of both parts (Cochran)."""
        sampling_quantile, seed_quantile = quantile(self.units - 1), quantile(self.freedom)
        if not self.seed_variance:
            return sampling_quantile
        return (self.sampling_variance * sampling_quantile + self.seed_variance * seed_quantile) / self.total


def quantile(freedom: float, level: float = SIGNIFICANCE_LEVEL) -> float:
    """Return the two-sided quantile q of Student's t: |t| exceeds q with probability ``level``. Freedom below 1 counts as 1."""
    return student_t.quantile(max(freedom, 1.0), level)


def bias_correction(units: int) -> float:
    """Return the factor n / (n - 1) that makes the bootstrap variance of a mean over n ``units`` unbiased; 1 for n below 2."""
    return units / (units - 1) if units > 1 else 1.0
