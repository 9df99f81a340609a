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
from harness.search.low_fidelity import row

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
        at = np.array([row({name: one}, params) for params, _ in trials])
        of_all, of_best = find(one, at), find(one, at[values <= enough])
        divergences[name] = float(of_all @ (of_best / of_all - 1) ** 2)
    total = sum(divergences.values())
    shares = {name: one / total if total > 0 else 1 / len(space) for name, one in divergences.items()}
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))


def of_choices(one: Distribution, at: Array) -> Array:
    """The density over choices, float64 (choices,), of values (n, choices) as `row` gives them: each leaves a little to the other
    choices, and one more is anywhere."""
    count, choices = at.shape
    little = 1 / (count + 1)
    found = (at.sum(axis=0) + count * little) / (1 + choices * little)
    return np.asarray((found + 1 / choices) / (count + 1))


def of_numbers(one: Distribution, at: Array) -> Array:
    """The density over a range, float64 (steps,), of values (n, 1) as `row` gives them: each and its neighbourhood, and one more
    that is anywhere."""
    assert isinstance(one, (FloatDistribution, IntDistribution))
    steps = int(min(STEPS, (one.high - one.low) / one.step + 1)) if one.step else STEPS
    places = (at[:, 0] + 1) / 2 * (steps - 1)
    # Scott's rule, as narrow as the grid allows.
    first, third = np.quantile(places, [0.25, 0.75])
    width = max(1.059 * min(float(places.std()), (third - first) / 1.34) * len(places) ** -0.2, 0.3)
    each = np.exp(-0.5 * ((np.arange(steps) - places[:, None]) / width) ** 2)
    each /= each.sum(axis=1, keepdims=True)
    return np.asarray((each.sum(axis=0) + 1 / steps) / (len(places) + 1))
