"""Hyperparameter importance by PED-ANOVA (Watanabe, Bansal and Hutter 2023).

The importance of a hyperparameter is the Pearson divergence between its density among the best tenth of trials and its density
among all trials. Optuna has the same method, but its import also loads scikit-learn: that takes a second, and a quick search takes
three.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from harness.contract import Array, Distribution
from harness.search.low_fidelity import encode

TOP_SHARE, MIN_TOP_TRIALS = 0.1, 2
"""Share of trials that count as the best, and the minimum number of them."""
GRID_STEPS = 50
"""Maximum number of points on a hyperparameter's range at which densities are compared."""


def ped_anova(space: Mapping[str, Distribution], trials: Sequence[tuple[Mapping[str, Any], float]]) -> dict[str, float]:
    """Return each hyperparameter's share of the importance by name, the largest first; the shares add up to 1.

    Each of ``trials`` is a pair of hyperparameters and value; lower is better. If the best trials differ from the others in
    nothing, all shares are equal.
    """
    values = np.array([value for _, value in trials])
    threshold = np.sort(values)[max(math.ceil(TOP_SHARE * len(values)), MIN_TOP_TRIALS) - 1]
    divergences = {}
    for name, distribution in space.items():
        density = choice_density if isinstance(distribution, CategoricalDistribution) else range_density
        encoded = np.array([encode({name: distribution}, params) for params, _ in trials])
        of_all, of_best = density(distribution, encoded), density(distribution, encoded[values <= threshold])
        divergences[name] = float(of_all @ (of_best / of_all - 1) ** 2)
    total = sum(divergences.values())
    shares = {name: value / total if total > 0 else 1 / len(space) for name, value in divergences.items()}
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))


def choice_density(distribution: Distribution, encoded: Array) -> Array:
    """Return the smoothed share of each choice of a categorical hyperparameter, float64 (choices,); the shares add up to 1.

    ``encoded`` holds n values as one-hot rows (n, choices), see `encode`. Each value leaves a little weight to the other choices,
    and one uniform pseudo-value is added.
    """
    count, choices = encoded.shape
    smoothing = 1 / (count + 1)
    density = (encoded.sum(axis=0) + count * smoothing) / (1 + choices * smoothing)
    return np.asarray((density + 1 / choices) / (count + 1))


def range_density(distribution: Distribution, encoded: Array) -> Array:
    """Return the density of a numeric hyperparameter on a grid over its range, float64 (steps,); it adds up to 1.

    ``encoded`` holds n values from -1 to 1, (n, 1), see `encode`. Each value counts as a normal kernel, and one uniform
    pseudo-value is added.
    """
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    steps = (
        int(min(GRID_STEPS, (distribution.high - distribution.low) / distribution.step + 1))
        if distribution.step
        else GRID_STEPS
    )
    positions = (encoded[:, 0] + 1) / 2 * (steps - 1)
    # Scott's rule, as narrow as the grid allows.
    first, third = np.quantile(positions, [0.25, 0.75])
    width = max(1.059 * min(float(positions.std()), (third - first) / 1.34) * len(positions) ** -0.2, 0.3)
    kernels = np.exp(-0.5 * ((np.arange(steps) - positions[:, None]) / width) ** 2)
    kernels /= kernels.sum(axis=1, keepdims=True)
    return np.asarray((kernels.sum(axis=0) + 1 / steps) / (len(positions) + 1))
