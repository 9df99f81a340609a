"""How much each hyperparameter matters to being among the best: PED-ANOVA (Watanabe, Bansal and Hutter 2023).

The better a hyperparameter's values tell the best tenth of trials from all, the larger its share: by the Pearson divergence of
their densities. Optuna has the same; to load it takes a second, since scikit-learn comes with it, and a quick search takes three.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from harness.contract import Array, Distribution

BEST, FEWEST = 0.1, 2
"""The share of trials that count as the best, and at least so many."""
STEPS = 50
"""Places on a hyperparameter's range at which densities are compared."""


def ped_anova(space: Mapping[str, Distribution], trials: Sequence[tuple[Mapping[str, Any], float]]) -> dict[str, float]:
    """Shares that add up to 1, the largest first, of parameters and what they came to, less is better. Where nothing tells the
    best from the others all matter alike."""
    values = np.array([value for _, value in trials])
    enough = np.sort(values)[max(math.ceil(BEST * len(values)), FEWEST) - 1]
    divergences = {}
    for name, one in space.items():
        find = of_choices if isinstance(one, CategoricalDistribution) else of_numbers
        given = [params[name] for params, _ in trials]
        of_all, of_best = find(one, given), find(one, [value for value, best in zip(given, values <= enough) if best])
        divergences[name] = float(of_all @ (of_best / of_all - 1) ** 2)
    total = sum(divergences.values())
    shares = {name: one / total if total > 0 else 1 / len(space) for name, one in divergences.items()}
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))


def of_choices(one: Distribution, values: Sequence[Any]) -> Array:
    """The density over choices, float64 (choices,): each value leaves a little to the others, and one more is anywhere."""
    assert isinstance(one, CategoricalDistribution)
    counts = np.bincount([one.choices.index(value) for value in values], minlength=len(one.choices))
    little = 1 / (len(values) + 1)
    found = (counts + len(values) * little) / (1 + len(one.choices) * little)
    return np.asarray((found + 1 / len(one.choices)) / (len(values) + 1))


def of_numbers(one: Distribution, values: Sequence[Any]) -> Array:
    """The density over a range, float64 (steps,): each value and its neighbourhood, and one more that is anywhere."""
    assert isinstance(one, (FloatDistribution, IntDistribution))
    at, low, high = np.asarray(values, dtype=np.float64), one.low, one.high
    steps = int(min(STEPS, (high - low) / one.step + 1)) if one.step else STEPS
    if one.log:
        at, low, high = np.log(at), math.log(low), math.log(high)
    at = (at - low) / max(high - low, 1e-300) * (steps - 1)
    # Scott's rule, as narrow as the grid allows.
    first, third = np.quantile(at, [0.25, 0.75])
    width = max(1.059 * min(float(at.std()), (third - first) / 1.34) * len(at) ** -0.2, 0.3)
    each = np.exp(-0.5 * ((np.arange(steps) - at[:, None]) / width) ** 2)
    each /= each.sum(axis=1, keepdims=True)
    return np.asarray((each.sum(axis=0) + 1 / steps) / (len(at) + 1))
