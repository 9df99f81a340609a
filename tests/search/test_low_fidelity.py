"""Drafts: who is fitted whole after a tenth of the epochs, and what that is taken to mean."""

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
from harness.search.low_fidelity import BAD, KNOWN, TWICE, Drafts, Foreseen, row
from harness.search.sampler import Study

SPACE = {"rate": Float(1e-4, 1e-1, log=True), "units": Int(1, 9), "how": Categorical(("a", "b"))}
values = st.floats(0, 10)


def rate(x: float) -> dict[str, object]:
    """Hyperparameters of which the rate lies at x from -1 to 1."""
    return {"rate": 10 ** (-2.5 + 1.5 * x), "units": 5, "how": "a"}


def drafts_of(found: list[float], n_trials: int = 64) -> Drafts:
    drafts = Drafts(n_trials, SPACE)
    for number, value in enumerate(found):
        drafts.take(number, 1, value, 3, rate(0))
    return drafts


@given(st.lists(values, min_size=1, max_size=80, unique=True), st.integers(12, 200))
def test_of_those_drafted_together_the_best_go_on(found: list[float], n_trials: int) -> None:
    drafts = drafts_of(found, n_trials)
    chosen = drafts.choose(range(len(found)))
    assert len(chosen) <= max(math.floor(max(1 / 12, 4 / n_trials) * len(found) + 1e-9), 1)
    assert min(found[number] for number in chosen) == pytest.approx(min(found), abs=1e-9)


@given(st.lists(values, min_size=1, max_size=80))
def test_however_they_come_no_more_go_on_than_their_share(found: list[float]) -> None:
    drafts = Drafts(64, SPACE)
    for number, value in enumerate(found):
        drafts.take(number, 1, value, 3, rate(0))
        drafts.choose([number])
        assert len(drafts.went) <= max((number + 1) // 12, 1)


@given(st.permutations(range(TWICE)), st.integers(1, 6))
def test_drafts_are_heeded_where_longer_ones_say_the_same(order: list[int], longer: int) -> None:
    """And where they are longer, and the short ones a quarter of a whole fit at most."""
    drafts = drafts_of([float(value) for value in range(TWICE)])
    assert drafts.proven is None
    for number, value in enumerate(order):
        drafts.take(number, 2, float(value), longer, rate(0))
    pairs = [(a, b) for a in range(TWICE) for b in range(a + 1, TWICE)]
    agree = sum(order[a] < order[b] for a, b in pairs) / len(pairs)
    assert drafts.proven == (agree >= 0.85 and longer > 3)
    drafts.end(0, 0.5, 11)
    assert drafts.proven is False, "a draft is more than a quarter of a whole fit"


def test_what_whole_fits_came_to_is_learned_from() -> None:
    """Drafts favour high rates, whole fits lower ones: after a few of those it is the lower ones that are foreseen to be good."""
    drafts = Drafts(64, SPACE)
    x = np.linspace(-0.95, 0.95, 39)
    short, whole = (x - 0.6) ** 2, (x + 0.2) ** 2 / 2
    for number, at in enumerate(x):
        drafts.take(number, 1, float(short[number]), 3, rate(at))

    def best() -> float:
        foreseen = drafts.foreseen()
        return float(x[min((number for number in foreseen if number not in drafts.ends), key=lambda n: foreseen[n])])

    assert best() > 0.5
    for count, number in enumerate((31, 20, 36, 25, 15), start=1):
        drafts.end(number, float(whole[number]), 30)
        assert drafts.known == (count >= KNOWN)
    assert -0.5 < best() < 0.35
    foreseen = drafts.foreseen()
    assert whole[min(foreseen, key=lambda number: foreseen[number])] < 0.02


def test_who_fails_takes_nobodys_place() -> None:
    drafts = drafts_of([float(number) for number in range(12)])
    assert drafts.choose(range(12)) == {0} and drafts.choose(range(1, 12)) == set()
    drafts.drop(0)
    assert drafts.choose(range(1, 12)) == {1}


def test_what_was_never_drafted_counts_as_what_it_came_to() -> None:
    drafts = drafts_of([0.1 * number for number in range(20)])
    for number in (0, 1, 2, 99):
        drafts.end(number, 0.05 if number == 99 else 0.1 * number + 0.1, 30)
    foreseen = drafts.foreseen()
    assert min(foreseen, key=lambda number: foreseen[number]) == 99 and set(foreseen) == {*range(20), 99}


def test_of_drafts_a_gaussian_process_is_told_what_is_bad() -> None:
    """And the other sampler all that is foreseen: it asks where that is best."""
    study = Study(Description(("k",), {"a": Float(0, 1)}, {}), higher_is_better=True)
    study.assume([Foreseen({"a": n / 40}, abs(n / 4 - 8), n % 10 == 0) for n in range(40)])
    told = study.regarded()
    assert {(params["a"], value) for params, value in told} == {
        (n / 40, abs(n / 4 - 8)) for n in range(40) if n % 10 == 0 or abs(n / 4 - 8) > BAD
    }
    asked = [study.question(number)[0]()["a"] for number in range(100, 120, 2)]
    assert 0.6 < np.median(asked) < 1
    study.assume(None)
    assert study.regarded() == []


def test_hyperparameters_as_numbers() -> None:
    assert row(SPACE, {"rate": 1e-4, "units": 9, "how": "b"}).tolist() == pytest.approx([-1, 1, 0, 1])
    assert row({"only": Float(2, 2)}, {"only": 2.0}).tolist() == [0.0]


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
def test_in_a_draft_the_rate_runs_its_whole_course(epochs: int, budget: float, expected: int) -> None:
    x = np.arange(4 * 96, dtype=np.uint8).reshape(96, 2, 2, 1)
    split = Split(x, np.arange(96) % 3)
    model = Small({"epochs": epochs}, seed=0, device="cpu")
    model.task_kind, model.rates, model.budget = SimpleNamespace(name="image-classification", classes=3), [], budget
    reports: list[float] = []
    model.fit(split, split, reports.append)
    assert len(reports) == expected and type(model).supports_budget()
    assert max(model.rates) == pytest.approx(2e-3, rel=0.2) and model.rates[-1] < 2e-5


def test_keras_heeds_it_too() -> None:
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


def test_who_has_a_fit_of_its_own_is_not_drafted() -> None:
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
    def heeds_budget(cls):
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


def test_a_twelfth_of_a_search_is_fitted_whole(tmp_path: Path) -> None:
    """The best of those drafted, and the plug-in's own guess whatever it is worth; the first have drafted twice."""
    found, fits = searched(tmp_path, BUDGETED, 60)
    whole = [fit for fit in fits if fit.status == "complete"]
    assert 4 <= len(whole) <= 6 and whole[0].number == 0 and {fit.status for fit in fits} == {"complete", "pruned"}
    assert all(set(fit.facts["drafts"]) == ({"1", "2"} if fit.number < TWICE else {"1"}) for fit in fits)
    reports = sum(len(fit.facts["losses"]) + sum(fit.facts["tried"].values()) for fit in fits)
    assert reports / (20 * 60) < 0.25
    assert found.params["wrong"] == min(fit.params["wrong"] for fit in whole)
    assert found.params["wrong"] <= np.quantile([fit.params["wrong"] for fit in fits], 0.1)
    _, longer = searched(tmp_path, BUDGETED, 72)
    assert [fit.status for fit in longer[:60]] == [fit.status for fit in fits], "extended, what was decided stays so"
    assert all(fit.facts["drafts"] for fit in longer) and sum(fit.status == "complete" for fit in longer) <= 7


@pytest.mark.parametrize(
    "unlike",
    [
        "(1 - self.params['wrong'] if self.budget == 0.1 else self.params['wrong'])",
        "(self.params['wrong'] if self.budget != 0.1 else 0.5 + 0.5 * np.sin(50 * self.params['wrong']))",
    ],
)
def test_where_short_fits_tell_nothing_all_are_fitted_whole(tmp_path: Path, unlike: str) -> None:
    _, fits = searched(tmp_path, BUDGETED.replace('(self.params["wrong"] + 1 - self.budget) / 2', unlike), 16)
    assert {fit.status for fit in fits} == {"complete"}


def test_who_does_not_heed_its_budget_after_all_is_fitted_whole(tmp_path: Path) -> None:
    """Nothing would be saved."""
    heedless = BUDGETED.replace("round(20 * self.budget)", "5")
    _, fits = searched(tmp_path, heedless, 16)
    assert {fit.status for fit in fits} == {"complete"}


TOGETHER = """
    @classmethod
    def together(cls):
        return True

    @classmethod
    def fit_together(cls, makers, train, valid, report, few):"""


def failing(where: str, together: bool) -> str:
    """A submission of which fits fail where that is true; with ``together`` it says that it may be stacked, and then refuses."""
    fails = f"""
        if {where}:
            raise ValueError("not so little")
"""
    text = BUDGETED.replace("(self, train, valid, report):\n", "(self, train, valid, report):" + fails, 1)
    refused = f"""{TOGETHER}
        return {{}}, dict.fromkeys(range(len(makers)), "they are not alike")
"""
    return text + refused * together


@pytest.mark.parametrize("together", [False, True])
def test_where_whole_fits_fail_those_go_on_who_were_next(tmp_path: Path, together: bool) -> None:
    """All that promised most fail once they are fitted whole, as under a limit on time that drafts keep."""
    found, fits = searched(tmp_path, failing("self.params['wrong'] < 0.5 and self.budget == 1", together), 16)
    whole = [fit for fit in fits if fit.status == "complete" and fit.number]
    failed = [fit for fit in fits if fit.status == "failed"]
    assert len(fits) == 16 and whole and failed and all(fit.params["wrong"] < 0.5 for fit in failed)
    assert found.params["wrong"] == min(fit.params["wrong"] for fit in whole) < 0.9, "better than its author's guess"


def test_who_was_not_chosen_ends_whatever_whole_fits_show(tmp_path: Path) -> None:
    """That they are shorter than they might be, say, since patience ends them: what was drafted is drafted."""
    stacked = f"""{TOGETHER}
        models = {{number: make() for number, make in enumerate(makers)}}
        for _ in range(min(round(20 * models[0].budget), 6)):
            report(dict.fromkeys(models, 0.5))
        return models, {{}}
"""
    _, fits = searched(tmp_path, BUDGETED + stacked, 24)
    assert all("1" in fit.facts["drafts"] for fit in fits)
    assert [fit.status for fit in fits].count("complete") <= 6


@pytest.mark.parametrize("together", [False, True])
def test_drafts_that_fail_end_no_search_in_which_others_do_not(tmp_path: Path, together: bool) -> None:
    _, fits = searched(tmp_path, failing("self.params['wrong'] < 0.7", together), 24)
    assert {fit.status for fit in fits} == {"failed", "complete", "pruned"} and len(fits) == 24
    assert all((fit.status == "failed") == (fit.params["wrong"] < 0.7) for fit in fits)


def test_a_search_out_of_time_ends_with_its_best_draft(tmp_path: Path) -> None:
    slow = BUDGETED.replace("report(0.5)", "time.sleep(0.1); report(0.5)")
    found, fits = searched(tmp_path, slow, 40, timeout=1.2)
    (only,) = (fit for fit in fits if fit.status == "complete")
    assert found.params == only.params and len(only.facts["losses"]) == 20


def test_without_halving_nothing_is_drafted(tmp_path: Path) -> None:
    _, fits = searched(tmp_path, BUDGETED, 12, halving=False)
    assert {fit.status for fit in fits} == {"complete"} and not any("drafts" in fit.facts for fit in fits)
