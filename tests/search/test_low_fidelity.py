"""Low-fidelity search: promotion after a tenth of the epochs, and predictions of full fits from short ones."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_search import searched
from torch import nn

from harness import Categorical, Float, Int, Split
from harness.frameworks.torch import TorchSubmission
from harness.plugins.description import Description
from harness.search.fidelity import FidelityPolicy
from harness.search.low_fidelity import CLEARLY_BAD, MIN_FULL_FITS, RECHECKED_TRIALS, LowFidelity, Prediction, encode
from harness.search.sampler import Sampler
from harness.search.trial import SearchConfig
from leaderboard.store.store import Fit

SPACE = {"rate": Float(1e-4, 1e-1, log=True), "units": Int(1, 9), "how": Categorical(("a", "b"))}
values = st.floats(0, 10)


def rate(x: float) -> dict[str, object]:
    """Hyperparameters with the rate at position x of its range, from -1 to 1."""
    return {"rate": 10 ** (-2.5 + 1.5 * x), "units": 5, "how": "a"}


def with_short_fits(found: list[float], n_trials: int = 64) -> LowFidelity:
    low_fidelity = LowFidelity(n_trials, SPACE)
    for number, value in enumerate(found):
        low_fidelity.record(number, 1, value, 3, rate(0))
    return low_fidelity


@given(st.lists(values, min_size=1, max_size=80, unique=True), st.integers(12, 200))
def test_the_best_of_a_batch_are_promoted(found: list[float], n_trials: int) -> None:
    low_fidelity = with_short_fits(found, n_trials)
    chosen = low_fidelity.promote(range(len(found)))
    assert len(chosen) <= max(math.floor(max(1 / 12, 4 / n_trials) * len(found) + 1e-9), 1)
    assert min(found[number] for number in chosen) == pytest.approx(min(found), abs=1e-9)


@given(st.lists(values, min_size=1, max_size=80))
def test_single_trials_are_promoted_within_the_share(found: list[float]) -> None:
    low_fidelity = LowFidelity(64, SPACE)
    for number, value in enumerate(found):
        low_fidelity.record(number, 1, value, 3, rate(0))
        low_fidelity.promote([number])
        assert len(low_fidelity.promoted) <= max((number + 1) // 12, 1)


@given(st.permutations(range(RECHECKED_TRIALS)), st.integers(1, 6))
def test_short_fits_are_trusted_if_longer_ones_agree(order: list[int], longer: int) -> None:
    """Longer fits must really be longer, and short ones at most a quarter of a full fit."""
    low_fidelity = with_short_fits([float(value) for value in range(RECHECKED_TRIALS)])
    assert low_fidelity.is_reliable is None
    for number, value in enumerate(order):
        low_fidelity.record(number, 2, float(value), longer, rate(0))
    pairs = [(a, b) for a in range(RECHECKED_TRIALS) for b in range(a + 1, RECHECKED_TRIALS)]
    agree = sum(order[a] < order[b] for a, b in pairs) / len(pairs)
    assert low_fidelity.is_reliable == (agree >= 0.85 and longer > 3)
    low_fidelity.record_final(0, 0.5, 11)
    assert low_fidelity.is_reliable is False, "a short fit is more than a quarter of a full fit"


def test_full_fits_improve_the_predictions() -> None:
    """Short fits favour high rates, full fits lower ones: after a few full fits the predictions favour the lower rates."""
    low_fidelity = LowFidelity(64, SPACE)
    x = np.linspace(-0.95, 0.95, 39)
    short, full = (x - 0.6) ** 2, (x + 0.2) ** 2 / 2
    for number, at in enumerate(x):
        low_fidelity.record(number, 1, float(short[number]), 3, rate(at))

    def best() -> float:
        predicted = low_fidelity.predict_final()
        return float(
            x[min((number for number in predicted if number not in low_fidelity.finals), key=lambda n: predicted[n])]
        )

    assert best() > 0.5
    for count, number in enumerate((31, 20, 36, 25, 15), start=1):
        low_fidelity.record_final(number, float(full[number]), 30)
        assert low_fidelity.can_predict == (count >= MIN_FULL_FITS)
    assert -0.5 < best() < 0.35
    predicted = low_fidelity.predict_final()
    assert full[min(predicted, key=lambda number: predicted[number])] < 0.02


def test_a_failed_trial_frees_its_place() -> None:
    low_fidelity = with_short_fits([float(number) for number in range(12)])
    assert low_fidelity.promote(range(12)) == {0} and low_fidelity.promote(range(1, 12)) == set()
    low_fidelity.discard(0)
    assert low_fidelity.promote(range(1, 12)) == {1}


def test_a_trial_without_a_short_fit_counts_by_its_full_fit() -> None:
    low_fidelity = with_short_fits([0.1 * number for number in range(20)])
    for number in (0, 1, 2, 99):
        low_fidelity.record_final(number, 0.05 if number == 99 else 0.1 * number + 0.1, 30)
    predicted = low_fidelity.predict_final()
    assert min(predicted, key=lambda number: predicted[number]) == 99 and set(predicted) == {*range(20), 99}


def test_a_gaussian_process_sees_full_fits_and_bad_predictions() -> None:
    """The other sampler sees all predictions and suggests points near the best ones."""
    study = Sampler(Description(("k",), {"a": Float(0, 1)}, {}), higher_is_better=True)
    study.set_predictions([Prediction({"a": n / 40}, abs(n / 4 - 8), n % 10 == 0) for n in range(40)])
    observations = study.gp_observations()
    assert {(params["a"], value) for params, value in observations} == {
        (n / 40, abs(n / 4 - 8)) for n in range(40) if n % 10 == 0 or abs(n / 4 - 8) > CLEARLY_BAD
    }
    suggested = [study.suggest(number)[0]()["a"] for number in range(100, 120, 2)]
    assert 0.6 < np.median(suggested) < 1
    study.set_predictions(None)
    assert study.gp_observations() == []


def test_hyperparameters_as_numbers() -> None:
    assert encode(SPACE, {"rate": 1e-4, "units": 9, "how": "b"}).tolist() == pytest.approx([-1, 1, 0, 1])
    assert encode({"only": Float(2, 2)}, {"only": 2.0}).tolist() == [0.0]


class Small(TorchSubmission):
    kind = "image-classification"
    rates: list[float]

    def build(self, train: Split) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))

    def gradients(self, optimizer: torch.optim.Optimizer, batch: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        self.rates.append(float(optimizer.param_groups[0]["lr"]))
        return super().gradients(optimizer, batch, target)


@pytest.mark.parametrize(
    ("epochs", "budget", "expected"), [(40, 0.1, 4), (40, 0.2, 8), (10, 0.1, 2), (1, 0.1, 1), (7, 1, 7)]
)
def test_a_short_fit_runs_the_whole_learning_rate_schedule(epochs: int, budget: float, expected: int) -> None:
    x = np.arange(4 * 96, dtype=np.uint8).reshape(96, 2, 2, 1)
    split = Split(x, np.arange(96) % 3)
    model = Small({"epochs": epochs}, seed=0, device="cpu")
    model.task_kind, model.rates, model.budget = SimpleNamespace(name="image-classification", classes=3), [], budget
    reports: list[float] = []
    model.fit(split, split, reports.append)
    assert len(reports) == expected and type(model).supports_budget()
    assert max(model.rates) == pytest.approx(2e-3, rel=0.2) and model.rates[-1] < 2e-5


def test_keras_supports_budgets() -> None:
    from harness.frameworks.keras import KerasSubmission, keras

    class Dense(KerasSubmission):
        kind, epochs = "image-classification", 30

        def build(self, train: Split) -> object:
            return keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")])

    split = Split(np.zeros((32, 2, 2, 1), np.uint8), np.arange(32) % 3)
    model = Dense({}, seed=0, device="cpu")
    model.task_kind, model.budget = SimpleNamespace(name="image-classification", classes=3), 0.1
    reports: list[float] = []
    model.fit(split, split, reports.append)
    assert len(reports) == 3 and Dense.supports_budget()


def test_a_submission_with_its_own_fit_has_no_budget() -> None:
    class Own(Small):
        def fit(self, train: Split, valid: Split, report: object) -> None:
            pass

    assert not Own.supports_budget()


BUDGETED = """
import time
import numpy as np
from harness import Float, Submission

class Budgeted(Submission):
    kind = "image-classification"
    space = {"wrong": Float(0, 1)}
    defaults = {"wrong": 0.9}

    @classmethod
    def supports_budget(cls):
        return True

    def fit(self, train, valid, report):
        for _ in range(round(20 * self.budget)):
            report(0.5)

    def share(self):
        return (self.params["wrong"] + 1 - self.budget) / 2

    def predict(self, x):
        answer = x.reshape(len(x), -1)[:, 0] % 3
        wrong = np.arange(len(x)) < self.share() * len(x)
        return np.where(wrong, (answer + 1) % 3, answer).astype(int)
"""


def test_a_twelfth_of_a_search_is_promoted(tmp_path: Path) -> None:
    """Promoted trials are the best of the short fits and the plug-in's defaults; the first trials have two short fits each."""
    found, fits = searched(tmp_path, BUDGETED, 60)
    full = [fit for fit in fits if fit.status == "complete"]
    assert 4 <= len(full) <= 6 and full[0].number == 0 and {fit.status for fit in fits} == {"complete", "pruned"}
    assert all(set(fit.facts["drafts"]) == ({"1", "2"} if fit.number < RECHECKED_TRIALS else {"1"}) for fit in fits)
    reports = sum(len(fit.facts["losses"]) + sum(fit.facts["tried"].values()) for fit in fits)
    assert reports / (20 * 60) < 0.25
    assert found.params["wrong"] == min(fit.params["wrong"] for fit in full)
    assert found.params["wrong"] <= np.quantile([fit.params["wrong"] for fit in fits], 0.1)
    _, longer = searched(tmp_path, BUDGETED, 72)
    assert [fit.status for fit in longer[:60]] == [fit.status for fit in fits], "an extended search keeps its decisions"
    assert all(fit.facts["drafts"] for fit in longer) and sum(fit.status == "complete" for fit in longer) <= 7


@pytest.mark.parametrize(
    "unrelated",
    [
        "(1 - self.params['wrong'] if self.budget == 0.1 else self.params['wrong'])",
        "(self.params['wrong'] if self.budget != 0.1 else 0.5 + 0.5 * np.sin(50 * self.params['wrong']))",
    ],
)
def test_all_trials_are_fitted_fully_if_short_fits_do_not_predict(tmp_path: Path, unrelated: str) -> None:
    _, fits = searched(tmp_path, BUDGETED.replace('(self.params["wrong"] + 1 - self.budget) / 2', unrelated), 16)
    assert {fit.status for fit in fits} == {"complete"}


def test_a_submission_that_ignores_its_budget_is_fitted_fully(tmp_path: Path) -> None:
    """A short fit that is not shorter saves nothing."""
    unlimited = BUDGETED.replace("round(20 * self.budget)", "5")
    _, fits = searched(tmp_path, unlimited, 16)
    assert {fit.status for fit in fits} == {"complete"}


VECTORIZED = """
    @classmethod
    def supports_fit_many(cls):
        return True

    @classmethod
    def fit_many(cls, makers, train, valid, report, max_members):"""


def failing(where: str, vectorized: bool) -> str:
    """Source of a submission that fails under a condition; with ``vectorized`` it accepts vectorized fits and then rejects them."""
    fails = f"""
        if {where}:
            raise ValueError("not so little")
"""
    text = BUDGETED.replace("(self, train, valid, report):\n", "(self, train, valid, report):" + fails, 1)
    rejects = f"""{VECTORIZED}
        return {{}}, dict.fromkeys(range(len(makers)), "they are not alike"), ()
"""
    return text + rejects * vectorized


@pytest.mark.parametrize("vectorized", [False, True])
def test_the_next_best_are_promoted_if_full_fits_fail(tmp_path: Path, vectorized: bool) -> None:
    """The most promising trials all fail in full fits, as under a time limit that short fits keep."""
    found, fits = searched(tmp_path, failing("self.params['wrong'] < 0.5 and self.budget == 1", vectorized), 16)
    full = [fit for fit in fits if fit.status == "complete" and fit.number]
    failed = [fit for fit in fits if fit.status == "failed"]
    assert len(fits) == 16 and full and failed and all(fit.params["wrong"] < 0.5 for fit in failed)
    assert found.params["wrong"] == min(fit.params["wrong"] for fit in full) < 0.9, "better than the defaults"


def test_rejected_trials_stay_rejected(tmp_path: Path) -> None:
    """Full fits turn out shorter than planned, as with early stopping: decisions from short fits stay."""
    short = f"""{VECTORIZED}
        models = {{number: make() for number, make in enumerate(makers)}}
        for _ in range(min(round(20 * models[0].budget), 6)):
            report(dict.fromkeys(models, 0.5))
        return models, {{}}, ()
"""
    _, fits = searched(tmp_path, BUDGETED + short, 24)
    assert all("1" in fit.facts["drafts"] for fit in fits)
    assert [fit.status for fit in fits].count("complete") <= 6


@pytest.mark.parametrize("vectorized", [False, True])
def test_failing_short_fits_do_not_end_a_search(tmp_path: Path, vectorized: bool) -> None:
    _, fits = searched(tmp_path, failing("self.params['wrong'] < 0.7", vectorized), 24)
    assert {fit.status for fit in fits} == {"failed", "complete", "pruned"} and len(fits) == 24
    assert all((fit.status == "failed") == (fit.params["wrong"] < 0.7) for fit in fits)


def test_a_search_out_of_time_keeps_its_best_short_fit(tmp_path: Path) -> None:
    slow = BUDGETED.replace("report(0.5)", "time.sleep(0.1); report(0.5)")
    found, fits = searched(tmp_path, slow, 40, timeout=1.2)
    (only,) = (fit for fit in fits if fit.status == "complete")
    assert found.params == only.params and len(only.facts["losses"]) == 20


def test_without_halving_there_are_no_short_fits(tmp_path: Path) -> None:
    _, fits = searched(tmp_path, BUDGETED, 12, halving=False)
    assert {fit.status for fit in fits} == {"complete"} and not any("drafts" in fit.facts for fit in fits)


def test_a_trial_that_never_reported_loads_again() -> None:
    """A submission may go by its budget and report nothing: its stored trials hold no numbers of reports."""
    description = Description(("image-classification",), {"rate": Float(1e-4, 1e-1, log=True)}, {}, budget=True)
    policy = FidelityPolicy(description, SearchConfig(), 64, 1.0)
    facts = {"drafts": {"1": 0.5}, "tried": {}, "seconds": 1.0, "losses": []}
    policy.load(Fit("study", "search", 7, {"rate": 0.01}, 0, "pruned", None, facts))
    assert policy.low_fidelity is not None and policy.low_fidelity.losses[1] == {7: 0.5}
