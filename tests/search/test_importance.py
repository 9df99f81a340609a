"""Hyperparameter importance: equal to Optuna's, without the libraries that Optuna loads for it."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import optuna
import pytest
from conftest import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st

from harness import Categorical, Float, Int
from harness.search.importance import ped_anova

SPACE = {
    "rate": Float(1e-4, 1e-1, log=True),
    "share": Float(0, 0.5),
    "units": Int(1, 5),
    "how": Categorical(("a", "b", None)),
}


def drawn(count: int, seed: int) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [dict(study.ask(dict(SPACE)).params) for _ in range(count)]


WHAT = {
    "rate": lambda params: abs(math.log10(params["rate"]) + 2),
    "share": lambda params: params["share"],
    "units": lambda params: abs(params["units"] - 2),
    "how": lambda params: params["how"] == "b",
}


@pytest.mark.parametrize("name", WHAT)
def test_the_only_relevant_hyperparameter_has_the_largest_share(name: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, 120)
    trials = [(params, float(WHAT[name](params) + e)) for params, e in zip(drawn(120, 1), noise)]
    shares = ped_anova(SPACE, trials)
    assert next(iter(shares)) == name and shares[name] > 0.5


@pytest.mark.parametrize("seed", range(3))
def test_shares_equal_those_of_optuna(seed: int) -> None:
    """Shares of numbers: both use the same densities except at the edges. The categorical parameter has no effect here."""
    trials = [
        (params, 2 * WHAT["rate"](params) + params["share"] + 0.1 * WHAT["units"](params))
        for params in drawn(200, seed)
    ]
    study = optuna.create_study()
    for params, value in trials:
        study.add_trial(optuna.trial.create_trial(params=params, distributions=dict(SPACE), value=value))
    theirs = optuna.importance.get_param_importances(study, evaluator=optuna.importance.PedAnovaImportanceEvaluator())
    assert ped_anova(SPACE, trials) == pytest.approx(theirs, abs=0.05)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=2, max_size=40), st.integers(0, 9))
def test_shares_add_up(values: list[float], seed: int) -> None:
    """Shares add up to 1, also if all trials are equally good or a range has one value."""
    space = {**SPACE, "only": Float(2, 2)}
    shares = ped_anova(space, [({**params, "only": 2.0}, v) for params, v in zip(drawn(len(values), seed), values)])
    assert shares.keys() == space.keys() and sum(shares.values()) == pytest.approx(1)
    assert all(0 <= share <= 1 for share in shares.values())
    if len(set(values)) == 1:
        assert all(share == pytest.approx(1 / len(space)) for share in shares.values())


def test_importance_loads_no_library() -> None:
    code = """
import sys
from harness import Float
from harness.commands.tune import importance
from leaderboard.store.store import Fit

fits = [Fit("s", "search", n, {"a": n / 20}, 0, "complete", n / 20) for n in range(20)]
assert importance({"a": Float(0, 1)}, fits, higher_is_better=True) == {"a": 1}
print([name for name in ("sklearn", "scipy", "pandas") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr
