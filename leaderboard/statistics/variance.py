"""What a score owes to chance. Imports no numpy: a board of one needs none, and its import takes longer than all else there."""

from __future__ import annotations

from typing import NamedTuple

from leaderboard.statistics import student_t

LEVEL = 0.95


class Spread(NamedTuple):
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
    return student_t.quantile(max(freedom, 1.0), level)


def unbiased(units: int) -> float:
    """What the variance of bootstrap replicates of a mean is multiplied with, where so many units are drawn from."""
    return units / (units - 1) if units > 1 else 1.0
