"""Low-fidelity trials: every trial is first fitted for a tenth of its epochs. The most promising ones are then fitted anew, fully.

This is successive halving (Jamieson and Talwalkar 2016) with fits of growing budget. In a low-fidelity fit the learning rate rises
and falls as in a full fit. This tells more than the first epochs of a full fit: while the rate still rises, the trials that end
worst may lead.

Short fits are biased, mostly towards high learning rates. So low-fidelity losses are corrected by a Bayesian linear regression of
the full fits' values on the low-fidelity loss and the hyperparameters. Its prior trusts the low-fidelity loss.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from harness.contract import Array, Distribution
from harness.search.asha import concordance

LOW_FIDELITY = 0.1
"""Budget of a low-fidelity fit, as a share of a full fit. The first trials are fitted a second time, with twice this budget."""
RECHECKED_TRIALS, MIN_RECHECKED = 6, 5
"""Number of trials with a second low-fidelity fit, and the minimum to judge whether low-fidelity losses are reliable."""
MIN_CONCORDANCE = 0.85
"""Smallest concordance between the losses of the first and the second low-fidelity fit at which the low fidelity is reliable.
(Measured: .7 on tasks where low-fidelity losses told nothing of the final ones, .93 and more elsewhere.)"""
MAX_COST_SHARE = 0.25
"""Largest ratio of the reports of a low-fidelity fit to the reports of a full fit at which the low fidelity is worth its cost. It
is exceeded if a full fit has few epochs."""
PROMOTED_SHARE, MIN_PROMOTED = 1 / 12, 4
"""Share of trials that get a full fit, and their minimum number. With the low-fidelity fits this costs a fifth to a quarter of full
fits of all trials."""
MIN_FULL_FITS = 3
"""Smallest number of trials with a low-fidelity fit and a full fit at which the regression is used."""
LOSS_PRIOR_SD, PARAMS_PRIOR_SD, NOISE_SD = 0.4, 3.0, 0.3
"""Standard deviations in the regression: of the prior of the loss's weight, of the prior of the other weights, and of the noise.

The unit is the distance from the best low-fidelity loss to the first quartile.
"""
MAX_DISTANCE = 8.0
"""Upper bound on a final value's distance from the best, in the unit of `LOSS_PRIOR_SD`: differences between worse trials do not
matter."""


CLEARLY_BAD = 2.0
"""Distance of a predicted final value from the best, in the unit of `LOSS_PRIOR_SD`, beyond which the trial is certainly bad."""


@dataclass(frozen=True)
class Prediction:
    """Final value of one trial, measured or predicted, as a distance from the best; lower is better.

    The unit is that of `LOSS_PRIOR_SD`. ``measured`` is True if the value comes from a full fit.
    """

    params: Mapping[str, Any]
    value: float
    measured: bool


class LowFidelity:
    """Results of a search's trials at low fidelity and in full fits, and the promotions that follow from them. Not thread-safe.

    ``losses`` and ``reports`` hold values and numbers of reports by fidelity (1 or 2 tenths of the budget) and trial number. Lower
    values are better.
    """

    def __init__(self, n_trials: int, space: Mapping[str, Distribution]) -> None:
        self.promoted_share, self.space = max(PROMOTED_SHARE, MIN_PROMOTED / n_trials), space
        self.losses: dict[int, dict[int, float]] = {1: {}, 2: {}}
        self.reports: dict[int, dict[int, int]] = {1: {}, 2: {}}
        self.encoded: dict[int, Array] = {}
        self.finals: dict[int, float] = {}
        """Values of full fits by trial number, also of trials without a low-fidelity fit."""
        self.full_reports: dict[int, int] = {}
        """Number of reports of each full fit, by trial number."""
        self.promoted: set[int] = set()
        self.open_places = 0
        """Number of promoted trials that failed and have no replacement yet."""

    def record(self, number: int, fidelity: int, value: float, reports: int, params: Mapping[str, Any]) -> None:
        """Record the value of a trial's fit at a fidelity of 1 or 2 tenths of the budget, and its number of reports."""
        self.losses[fidelity][number] = value
        self.reports[fidelity][number] = reports
        if number not in self.encoded:
            self.encoded[number] = encode(self.space, params)

    def record_final(self, number: int, value: float, reports: int) -> None:
        """Record the value of a trial's full fit and its number of reports. The trial then counts as promoted.

        Trial 0, the plug-in's defaults, always gets a full fit and does not count.
        """
        self.finals[number], self.full_reports[number] = value, reports
        if number:
            self.promoted.add(number)

    def discard(self, number: int) -> None:
        """Forget the low-fidelity losses of a failed trial; if it was promoted, open its place for another."""
        for fidelity in self.losses:
            self.losses[fidelity].pop(number, None)
        self.open_places += number in self.promoted
        self.promoted.discard(number)

    @property
    def is_reliable(self) -> bool | None:
        """True if low-fidelity losses are reliable and cheap enough; None while too few trials have a second low-fidelity fit."""
        once, again = self.losses[1], self.losses[2]
        rechecked = once.keys() & again.keys()
        if len(rechecked) < MIN_RECHECKED:
            return None
        shorter, longer = (sum(self.reports[fidelity][number] for number in rechecked) for fidelity in (1, 2))
        both = self.reports[1].keys() & self.full_reports.keys()
        low, full = (sum(counts[number] for number in both) for counts in (self.reports[1], self.full_reports))
        if longer <= shorter or low > MAX_COST_SHARE * full:
            return False
        return concordance([(once[number], again[number]) for number in rechecked]) >= MIN_CONCORDANCE

    @property
    def can_predict(self) -> bool:
        """True if there are enough full fits for the regression."""
        return len(self.finals.keys() & self.losses[1].keys()) >= MIN_FULL_FITS

    def predict_final(self) -> dict[int, float]:
        """Return the final value of each trial by number, as a distance from the best in the unit of `LOSS_PRIOR_SD`.

        The value is measured if the trial had a full fit, else predicted by the regression. Before there are enough full fits, it
        is the low-fidelity loss of each trial.
        """
        numbers = list(self.losses[1])
        if not numbers:
            return {}
        losses = np.array([self.losses[1][number] for number in numbers])
        lowest = losses.min()
        unit = max(float(np.quantile(losses, 0.25) - lowest), 1e-6 * float(np.ptp(losses))) or 1.0
        losses = (losses - lowest) / unit
        if not self.can_predict:
            return dict(zip(numbers, losses.tolist()))
        x = np.column_stack([np.ones(len(losses)), losses, np.stack([self.encoded[number] for number in numbers])])
        fitted = [index for index, number in enumerate(numbers) if number in self.finals]
        best = min(self.finals.values())
        measured = {number: min((final - best) / unit, MAX_DISTANCE) for number, final in self.finals.items()}
        y = np.array([measured[numbers[index]] for index in fitted])
        prior_mean = np.array([0.0, 1.0, *np.zeros(x.shape[1] - 2)])
        prior_sd = np.array([PARAMS_PRIOR_SD, LOSS_PRIOR_SD, *np.full(x.shape[1] - 2, PARAMS_PRIOR_SD)])
        # Posterior mean of a linear regression with a normal prior.
        x_fitted = x[fitted]
        precision = x_fitted.T @ x_fitted / NOISE_SD**2 + np.diag(prior_sd**-2)
        weights = prior_mean + np.linalg.solve(precision, x_fitted.T @ (y - x_fitted @ prior_mean) / NOISE_SD**2)
        return dict(zip(numbers, np.minimum(x @ weights, MAX_DISTANCE).tolist())) | measured

    def promote(self, candidates: Collection[int]) -> set[int]:
        """Promote the candidates whose final values are predicted to be among the best of all trials, as many as the share allows.

        Return the numbers of all candidates that are promoted now or were before.
        """
        predicted = self.predict_final()
        threshold = sorted(predicted.values())[self.max_promoted - 1]
        good = sorted((predicted[number], number) for number in candidates if predicted[number] <= threshold)
        before = self.promoted.intersection(candidates)
        chosen = [number for _, number in good if number not in before][
            : max(self.max_promoted - len(self.promoted), 0)
        ]
        self.promoted |= set(chosen)
        return before | set(chosen)

    def promote_next(self, rejected: Collection[int]) -> set[int]:
        """Promote the best rejected trials in place of promoted trials that failed; return the numbers of the new ones."""
        predicted = self.predict_final()
        places = min(self.open_places, max(self.max_promoted - len(self.promoted), 0))
        chosen = sorted(rejected, key=lambda number: predicted[number])[:places]
        self.open_places -= len(chosen)
        self.promoted |= set(chosen)
        return set(chosen)

    @property
    def max_promoted(self) -> int:
        """Number of trials that may be promoted so far; at least 1."""
        return max(math.floor(self.promoted_share * len(self.losses[1]) + 1e-9), 1)


def encode(space: Mapping[str, Distribution], params: Mapping[str, Any]) -> Array:
    """Return hyperparameters as a vector, float64 (k,), in the order of ``space``.

    A number becomes one element from -1 to 1, on a logarithmic scale where its range is logarithmic. A categorical hyperparameter
    becomes one element for each choice: 1 for its value, else 0.
    """
    encoded: list[float] = []
    for name, distribution in space.items():
        if isinstance(distribution, CategoricalDistribution):
            encoded += [1.0 if choice == params[name] else 0.0 for choice in distribution.choices]
        else:
            assert isinstance(distribution, (FloatDistribution, IntDistribution))
            bounds = distribution.low, distribution.high, params[name]
            low, high, value = map(math.log, bounds) if distribution.log else bounds
            encoded.append((2 * value - low - high) / (high - low) if high > low else 0.0)
    return np.array(encoded)
