"""What a score owes to chance. Imports no numpy: a board of one needs none, and its import takes longer than all else there."""

from __future__ import annotations

from typing import NamedTuple

from leaderboard.statistics import student_t

CONFIDENCE = 0.95
"""Coverage of every interval."""
SIGNIFICANCE_LEVEL = 0.05
"""Probability of a false difference that tests allow."""


class ScoreVariance(NamedTuple):
    """What a score owes to chance, as variances of that score.

    ``sampling`` is what another draw of hidden samples would bring, of which there are ``units`` that do not depend on each other.
    ``between`` is how much the mean looks to vary between seeds, known with so many degrees of ``freedom``; of that,
    ``interaction`` is due to the samples at hand, on which seeds happen to differ.
    """

    sampling_variance: float
    units: int
    between: float = 0.0
    interaction: float = 0.0
    freedom: float = 1.0

    @property
    def seed_variance(self) -> float:
        """What other seeds would bring beside other samples."""
        return max(self.between - self.interaction, 0.0)

    @property
    def total(self) -> float:
        return self.sampling_variance + self.seed_variance

    @property
    def quantile(self) -> float:
        """How many standard errors the 95 % interval reaches to either side."""
        of_samples, of_seeds = quantile(self.units - 1), quantile(self.freedom)
        if not self.seed_variance:
            return of_samples
        return (self.sampling_variance * of_samples + self.seed_variance * of_seeds) / self.total


def quantile(freedom: float, level: float = SIGNIFICANCE_LEVEL) -> float:
    """What Student's t exceeds on either side with a probability of ``level`` in all."""
    return student_t.quantile(max(freedom, 1.0), level)


def bias_correction(units: int) -> float:
    """What the variance of bootstrap replicates of a mean is multiplied with, where so many units are drawn from."""
    return units / (units - 1) if units > 1 else 1.0
