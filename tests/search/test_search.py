"""Parts of a search: successive halving, training subsets, the sampler's memory, and the report of `bakeoff tune`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from conftest import Command, table, write
from hypothesis import given
from hypothesis import strategies as st

from harness import Categorical, Float, Split
from harness.commands.tune import TuningResult, best_after_each_trial, tune
from harness.contract import Data
from harness.plugins.description import Description
from harness.search import fidelity
from harness.search.asha import FIRST_RUNG, REDUCTION_FACTOR, Rungs, lowest_loss
from harness.search.sampler import MAX_OBSERVATIONS, Sampler, full_fit_estimates
from harness.search.subsets import subset
from leaderboard import Store
from leaderboard.store.store import Fit

losses = st.floats(0, 10)


@given(st.sampled_from([1, FIRST_RUNG]), st.integers(0, 2), st.lists(losses, min_size=1, max_size=40, unique=True))
def test_a_third_of_a_batch_is_promoted_in_any_order(first: int, rung: int, found: list[float]) -> None:
    by_number, step = dict(enumerate(found)), first * REDUCTION_FACTOR**rung
    pruned = Rungs(first).losers(step, by_number)
    assert len(found) - len(pruned) == max(len(found) // 3, 1)
    assert all(by_number[number] > max(set(found) - {by_number[other] for other in pruned}) for number in pruned)
    assert Rungs(first).losers(step, dict(reversed(by_number.items()))) == pruned


@given(st.lists(losses, min_size=1, max_size=40))
def test_single_trials_are_compared_with_earlier_ones(found: list[float]) -> None:
    rungs = Rungs()
    for number, loss in enumerate(found):
        better = sum(other < loss for other in found[:number])
        assert bool(rungs.losers(FIRST_RUNG, {number: loss})) == (better >= max((number + 1) // 3, 1))


def test_rungs_are_at_powers_and_spare_the_second_half() -> None:
    rungs = Rungs()
    assert [step for step in range(100) if rungs.is_rung(step)] == [2, 6, 18, 54]
    assert [step for step in range(100) if Rungs(1).is_rung(step)] == [1, 3, 9, 27, 81]
    rungs.record_final(0, 36, 0.1)
    rungs.losers(18, {0: 0.1})
    assert rungs.losers(18, {1: 0.9}) == set()
    assert rungs.losers(6, {0: 0.1}) == set() and rungs.losers(6, {1: 0.9}) == {1}


@given(st.lists(st.lists(st.none() | losses, min_size=1, max_size=12), min_size=1, max_size=8))
def test_rungs_are_the_same_after_a_restart(trials: list[list[float | None]]) -> None:
    lived, restored = Rungs(), Rungs()
    for number, reports in enumerate(trials):
        for step in range(1, len(reports) + 1):
            lived.losers(step, {number: lowest_loss(reports[:step])})
        restored.restore(number, reports, None)
    assert lived.losses == restored.losses


@given(st.permutations(range(6)))
def test_a_rung_prunes_only_once_it_is_calibrated(order: list[int]) -> None:
    """The first six trials run to the end; a rung prunes if at least seven in ten pairs have the same order there as at the end."""
    rungs = Rungs(full_fits=6)
    for number, place in enumerate(order):
        assert rungs.losers(2, {number: float(place)}) == set()
        rungs.record_final(number, 36, float(number))
    agree = sum(order[a] < order[b] for a in range(6) for b in range(a + 1, 6))
    assert rungs.losers(2, {6: 99.0, 7: -1.0}) == ({6} if agree >= 0.7 * 15 else set())
    assert rungs.losers(6, {6: 99.0, 7: -1.0}) == set(), "no trial has reached this rung"


@given(st.lists(st.integers(0, 3), min_size=90, max_size=400), st.integers(0, 9))
def test_a_subset_is_stratified(labels: list[int], seed: int) -> None:
    """A subset has every class in proportion, each row once, and contains the smaller subsets."""
    y = np.array(labels)
    x = np.arange(len(y))
    data = Data(Split(x, y), Split(x, y), Split(x, y))
    rows = {ninths: subset(data.train, ninths, np.random.default_rng(seed)) for ninths in (1, 3, 9)}
    for ninths, split in rows.items():
        assert len(split) == -(-len(y) * ninths // 9) and len(set(split.x)) == len(split)
        assert np.array_equal(split.labels, y[split.x])
        for label in set(labels):
            share = (split.labels == label).sum() / len(split)
            assert abs(share - (y == label).mean()) <= 4 / len(split)
    assert set(rows[1].x) <= set(rows[3].x) <= set(rows[9].x) == set(x)


SILENT = """
import numpy as np
from harness import Float, Submission

class Silent(Submission):
    kind = "image-classification"
    space = {"wrong": Float(0, 1)}

    def fit(self, train, valid, report):
        print("rows", len(train))

    def predict(self, x):
        answer = x.reshape(len(x), -1)[:, 0] % 3
        wrong = np.arange(len(x)) < self.params["wrong"] * len(x)
        return np.where(wrong, (answer + 1) % 3, answer).astype(int)
"""
MANY = """
import numpy as np
from harness import Data, ImageClassification, Split, Task

def load():
    def split(n):
        x = (np.arange(n * 4).reshape(n, 2, 2, 1) % 251).astype(np.uint8)
        return Split(x, x.reshape(n, -1)[:, 0].astype(int) % 3)

    return Data(split(2700), split(300), split(300))

task = Task(name="many", kind=ImageClassification(classes=3), load=load, metric="accuracy")
"""


def searched(folder: Path, source: str, trials: int = 18, **options: object) -> tuple[TuningResult, list[Fit]]:
    """Run a search on 2,700 rows; return its result and its recorded fits."""
    write(folder, "entry.py", source)
    write(folder, "many.py", MANY)
    home = folder / "home"
    found = tune(str(folder / "many.py"), str(folder / "entry.py"), trials=trials, workers=2, home=home, **options)  # type: ignore[arg-type]
    store = Store(home)
    fits = store.fits(str(table(home, "study")[-1][0]), "search")
    store.close()
    return found, fits


def test_long_fits_without_reports_start_on_subsets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best third of ten trials gets a third of the rows and the best of these all rows; the defaults get all rows too."""
    monkeypatch.setattr(fidelity, "LONG_FIT_SECONDS", 0.0)
    found, fits = searched(tmp_path, SILENT)
    first = sorted(fits[:10], key=lambda fit: fit.params["wrong"])
    assert [len(fit.facts["parts"]) for fit in first] == [2] * 3 + [1] * 7
    assert {fit.number for fit in first if fit.status == "complete"} == {0, first[0].number}
    assert all(set(fit.facts["parts"]) in ({"1"}, {"1", "3"}) for fit in fits) and found.n_pruned >= 12
    assert found.params["wrong"] == min(fit.params["wrong"] for fit in fits)
    assert all(fit.facts["parts"] for fit in searched(tmp_path, SILENT, trials=21)[1]), (
        "an extended search also uses subsets"
    )


@pytest.mark.parametrize(
    "source", [SILENT, SILENT.replace("print(", "report(0.5), print(")], ids=["quick", "with reports"]
)
def test_quick_or_reporting_fits_use_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setattr(fidelity, "LONG_FIT_SECONDS", 60.0 if source is SILENT else 0.0)
    _, fits = searched(tmp_path, source, trials=4, halving=True)
    assert {fit.status for fit in fits} == {"complete"} and not any("parts" in fit.facts for fit in fits)


def test_a_search_out_of_time_keeps_its_best_subset_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity, "LONG_FIT_SECONDS", 0.0)
    slow = SILENT.replace('print("rows", len(train))', "import time; time.sleep(len(train) / 1000)")
    found, fits = searched(tmp_path, slow, timeout=1.0)
    (only,) = (fit for fit in fits if fit.status == "complete")
    assert set(only.facts["parts"]) == {"1"} and len(fits) > 1
    assert found.params["wrong"] == only.params["wrong"] == min(fit.params["wrong"] for fit in fits)


def test_a_long_history_keeps_its_best_trials() -> None:
    """Beyond its capacity the sampler keeps the best trials and an even sample of the rest."""
    space = {"a": Float(0, 1), "b": Categorical(("x", "y"))}
    study = Sampler(Description(("k",), space, {}), higher_is_better=True)
    rng = np.random.default_rng(0)
    for number in range(MAX_OBSERVATIONS + 200):
        a = float(rng.random())
        status = "complete" if number % 3 else "pruned"
        value = a if status == "complete" else None
        study.tell(Fit("s", "search", number, {"a": a, "b": "x"}, 0, status, value, {"losses": [1 - a]}))
    kept = study.study.get_trials(deepcopy=False)
    assert study.is_subsampled and len(kept) <= MAX_OBSERVATIONS
    assert max(trial.params["a"] for trial in kept if trial.value is not None) > 0.999
    suggested = [study.suggest(MAX_OBSERVATIONS + 200 + number)[0]() for number in range(8)]
    assert suggested == [study.suggest(MAX_OBSERVATIONS + 200 + number)[0]() for number in range(8)]
    assert np.mean([params["a"] for params in suggested]) > 0.8, "suggestions are near the good trials"


def test_a_suggestion_uses_all_results_so_far() -> None:
    """A suggestion uses results that arrived after an earlier suggestion."""
    study = Sampler(Description(("k",), {"a": Float(0, 1)}, {}), higher_is_better=True)
    rng = np.random.default_rng(0)
    numbers = iter(range(1000))

    def tell(count: int, around: float) -> None:
        for _ in range(count):
            a = float(np.clip(around + 0.02 * rng.normal(), 0, 1))
            study.tell(Fit("s", "search", next(numbers), {"a": a}, 0, "complete", a))

    def suggested() -> float:
        return float(np.median([study.suggest(500 + number)[0]()["a"] for number in range(9)]))

    tell(30, 0.1)
    assert suggested() < 0.4
    tell(60, 0.9)
    assert suggested() > 0.8


def smooth(params: Mapping[str, Any]) -> float:
    return (math.log10(params["rate"]) + 2.3) ** 2 + 0.1 * (params["b"] == "x") + 0.01 * params["decay"]


def test_slow_fits_get_gaussian_process_suggestions_that_find_a_smooth_optimum_sooner() -> None:
    """Compare with the Parzen estimator of quick fits, on the same number of trials, some of them pruned."""
    space = {"rate": Float(1e-5, 1.0, log=True), "decay": Float(0, 1), "b": Categorical(("x", "y"))}
    best: dict[bool, list[float]] = {True: [], False: []}
    for slow in (True, False):
        for seed in range(3):
            study = Sampler(Description(("k",), space, {}), higher_is_better=False, seed=seed)
            for start in range(0, 32, 4):
                pending: list[dict[str, Any]] = []
                for number in range(start, start + 4):
                    pending.append(study.suggest(number, pending if slow else None)[0]())
                for number, params in enumerate(pending, start):
                    value = smooth(params)
                    pruned = number > 8 and value > 3
                    fit = Fit(
                        "s", "search", number, params, 0, "pruned" if pruned else "complete", None if pruned else value
                    )
                    study.tell(replace(fit, facts={"losses": [value + 1] * (1 if pruned else 3)}))
            best[slow].append(min(fit.value for fit in study.observations if fit.value is not None))
            suggested = [study.suggest(33, [])[0](), study.suggest(33, [])[0]()]
            assert suggested[0] == suggested[1] != study.suggest(33, [suggested[0]])[0](), (
                "a pending trial is suggested again"
            )
    assert np.median(best[True]) < np.median(best[False])


def test_a_pruned_trial_is_estimated_from_trials_with_the_same_loss() -> None:
    whole = [Fit("s", "search", n, {"a": n}, 0, "complete", 0.9 - n / 10, {"losses": [n, n / 2]}) for n in range(5)]
    ended = Fit("s", "search", 5, {"a": 5}, 0, "pruned", None, {"losses": [3.1]})
    unlike = Fit("s", "search", 6, {"a": 6}, 0, "pruned", None, {"losses": [1, 1, 1]})
    found = full_fit_estimates([*whole, ended, unlike], -1.0)
    assert [value for _, value in found[:5]] == [-fit.value for fit in whole if fit.value is not None]
    assert found[5:] == [({"a": 5}, pytest.approx(-np.mean([0.7, 0.6, 0.5])))]


def test_without_complete_trials_there_is_no_estimate() -> None:
    """Without complete trials there is no estimate, and a suggestion still works."""
    study = Sampler(Description(("k",), {"a": Float(0, 1)}, {}), higher_is_better=True)
    for number in range(12):
        study.tell(Fit("s", "search", number, {"a": number / 12}, 0, "pruned", None, {"losses": [1.0]}))
    assert full_fit_estimates(study.observations, -1.0) == [] and 0 <= study.suggest(13, [])[0]()["a"] <= 1


def test_history_is_the_best_so_far() -> None:
    fits = [Fit("s", "search", n, {}, 0, "complete" if v else "pruned", v) for n, v in enumerate((None, 0.5, 0.3, 0.7))]
    assert best_after_each_trial(fits, 4, higher_is_better=True) == [None, 0.5, 0.5, 0.7]
    assert best_after_each_trial(fits, 4, higher_is_better=False) == [None, 0.5, 0.3, 0.3]


@pytest.mark.slow
def test_tune_reports_importance_and_exports(tiny: Path, bakeoff: Command) -> None:
    """Two tasks, the second with a warm start: Optuna can read both studies, which are complete after a second export."""
    text = (tiny / "nearest.py").read_text().replace("space = {", "space = {'idle': Float(0, 1), ")
    write(tiny, "two.py", text)
    write(tiny, "other.py", (tiny / "tiny.py").read_text().replace('name="tiny"', 'name="other"'))
    for trials in (8, 12):
        bakeoff("tune", "tiny.py", "two.py", "--trials", trials, "--export", "study.db")
    found = json.loads(bakeoff("tune", "tiny.py", "two.py", "--trials", 12, "--json").stdout)
    assert len(found["history"]) == 12 and found["history"][-1] == found["valid"]
    assert sum(found["importance"].values()) == pytest.approx(1) and set(found["importance"]) == {"idle", "shrink"}
    warm = json.loads(
        bakeoff(
            "tune", "other.py", "two.py", "--trials", 3, "--warm-start", "tiny.py", "--export", "study.db", "--json"
        ).stdout
    )
    assert warm["n_trials"] == 3
    with closing(Store(tiny / ".bakeoff", create=False)) as store:
        rows = store.database.read("SELECT study, params FROM fits WHERE number = 1 ORDER BY created_at")
    assert json.loads(rows[-1][1]) == found["params"], "the second trial is the best of the other task"
    studies = {one.study_name: one for one in optuna.get_all_study_summaries(f"sqlite:///{tiny / 'study.db'}")}
    assert {name: one.n_trials for name, one in studies.items()} == {"tiny/two": 12, "other/two": 3}
    assert studies["tiny/two"].best_trial.value == found["valid"]
    error = bakeoff("tune", "tiny.py", "nearest.py", "--trials", 1, "--warm-start", "other.py", code=2).stderr
    assert "no search on other to start from; run bakeoff tune other nearest first" in error
    assert (
        "could not be written to"
        in bakeoff("tune", "tiny.py", "two.py", "--trials", 12, "--export", "/nowhere/x", code=2).stderr
    )
