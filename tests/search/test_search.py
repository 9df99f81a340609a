"""What a search is made of: halving, parts of the training split, the study's memory, and what `bakeoff tune` tells of it."""

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

from harness import Categorical, Float, Split, runner
from harness.commands.tune import Tuned, history, tune
from harness.contract import Data
from harness.plugins.description import Description
from harness.search.asha import FACTOR, FIRST, Rungs, lowest
from harness.search.sampler import MOST, Study, expected
from harness.search.subsets import part
from leaderboard import Store
from leaderboard.store.store import Fit

losses = st.floats(0, 10)


@given(st.sampled_from([1, FIRST]), st.integers(0, 2), st.lists(losses, min_size=1, max_size=40, unique=True))
def test_of_trials_that_arrive_together_a_third_goes_on_whatever_their_order(
    first: int, place: int, found: list[float]
) -> None:
    by_number, step = dict(enumerate(found)), first * FACTOR**place
    ended = Rungs(first).arrive(step, by_number)
    assert len(found) - len(ended) == max(len(found) // 3, 1)
    assert all(by_number[number] > max(set(found) - {by_number[gone] for gone in ended}) for number in ended)
    assert Rungs(first).arrive(step, dict(reversed(by_number.items()))) == ended


@given(st.lists(losses, min_size=1, max_size=40))
def test_one_after_the_other_each_is_held_against_those_before_it(found: list[float]) -> None:
    rungs = Rungs()
    for number, loss in enumerate(found):
        better = sum(other < loss for other in found[:number])
        assert bool(rungs.arrive(FIRST, {number: loss})) == (better >= max((number + 1) // 3, 1))


def test_rungs_are_at_powers_and_the_second_half_is_let_be() -> None:
    rungs = Rungs()
    assert [step for step in range(100) if rungs.is_rung(step)] == [2, 6, 18, 54]
    assert [step for step in range(100) if Rungs(1).is_rung(step)] == [1, 3, 9, 27, 81]
    rungs.finished(0, 36, 0.1)
    rungs.arrive(18, {0: 0.1})
    assert rungs.arrive(18, {1: 0.9}) == set()
    assert rungs.arrive(6, {0: 0.1}) == set() and rungs.arrive(6, {1: 0.9}) == {1}


@given(st.lists(st.lists(st.none() | losses, min_size=1, max_size=12), min_size=1, max_size=8))
def test_rungs_are_the_same_after_a_restart(trials: list[list[float | None]]) -> None:
    lived, restored = Rungs(), Rungs()
    for number, reports in enumerate(trials):
        for step in range(1, len(reports) + 1):
            lived.arrive(step, {number: lowest(reports[:step])})
        restored.restore(number, reports, None)
    assert lived.losses == restored.losses


@given(st.permutations(range(6)))
def test_a_rung_ends_nobody_before_it_has_proved_itself(order: list[int]) -> None:
    """The first six go to their ends; heeded is a rung where they stood as they ended, in seven of ten pairs."""
    rungs = Rungs(whole=6)
    for number, place in enumerate(order):
        assert rungs.arrive(2, {number: float(place)}) == set()
        rungs.finished(number, 36, float(number))
    agree = sum(order[a] < order[b] for a in range(6) for b in range(a + 1, 6))
    assert rungs.arrive(2, {6: 99.0, 7: -1.0}) == ({6} if agree >= 0.7 * 15 else set())
    assert rungs.arrive(6, {6: 99.0, 7: -1.0}) == set(), "nobody has been there"


@given(st.lists(st.integers(0, 3), min_size=90, max_size=400), st.integers(0, 9))
def test_a_part_is_a_fair_sample(labels: list[int], seed: int) -> None:
    """Every class in proportion, each row once, and smaller parts within larger ones."""
    y = np.array(labels)
    x = np.arange(len(y))
    data = Data(Split(x, y), Split(x, y), Split(x, y))
    rows = {ninths: part(data, ninths, np.random.default_rng(seed)).train for ninths in (1, 3, 9)}
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


def searched(folder: Path, source: str, trials: int = 18, **options: object) -> tuple[Tuned, list[Fit]]:
    """A search on 2,700 rows, and what is on record of it."""
    write(folder, "entry.py", source)
    write(folder, "many.py", MANY)
    home = folder / "home"
    found = tune(str(folder / "many.py"), str(folder / "entry.py"), trials=trials, workers=2, home=home, **options)  # type: ignore[arg-type]
    store = Store(home)
    fits = store.fits(str(table(home, "study")[-1][0]), "search")
    store.close()
    return found, fits


def test_long_silent_fits_try_parts_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten the best third tries a third of the rows, the best of those all; so does the plug-in's own guess."""
    monkeypatch.setattr(runner, "LONG", 0.0)
    found, fits = searched(tmp_path, SILENT)
    first = sorted(fits[:10], key=lambda fit: fit.params["wrong"])
    assert [len(fit.facts["parts"]) for fit in first] == [2] * 3 + [1] * 7
    assert {fit.number for fit in first if fit.status == "complete"} == {0, first[0].number}
    assert all(set(fit.facts["parts"]) in ({"1"}, {"1", "3"}) for fit in fits) and found.n_pruned >= 12
    assert found.params["wrong"] == min(fit.params["wrong"] for fit in fits)
    assert all(fit.facts["parts"] for fit in searched(tmp_path, SILENT, trials=21)[1]), "extended, it goes on so"


@pytest.mark.parametrize(
    "source", [SILENT, SILENT.replace("print(", "report(0.5), print(")], ids=["quick", "with reports"]
)
def test_what_is_quick_or_reports_is_fitted_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setattr(runner, "LONG", 60.0 if source is SILENT else 0.0)
    _, fits = searched(tmp_path, source, trials=4, halving=True)
    assert {fit.status for fit in fits} == {"complete"} and not any("parts" in fit.facts for fit in fits)


def test_a_search_out_of_time_ends_with_the_best_of_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LONG", 0.0)
    slow = SILENT.replace('print("rows", len(train))', "import time; time.sleep(len(train) / 1000)")
    found, fits = searched(tmp_path, slow, timeout=1.0)
    (only,) = (fit for fit in fits if fit.status == "complete")
    assert set(only.facts["parts"]) == {"1"} and len(fits) > 1
    assert found.params["wrong"] == only.params["wrong"] == min(fit.params["wrong"] for fit in fits)


def test_the_study_remembers_the_best_however_long_it_gets() -> None:
    """Beyond its memory a search goes on with the best and a spread of the rest."""
    space = {"a": Float(0, 1), "b": Categorical(("x", "y"))}
    study = Study(Description(("k",), space, {}), higher_is_better=True)
    rng = np.random.default_rng(0)
    for number in range(MOST + 200):
        a = float(rng.random())
        status = "complete" if number % 3 else "pruned"
        value = a if status == "complete" else None
        study.tell(Fit("s", "search", number, {"a": a, "b": "x"}, 0, status, value, {"losses": [1 - a]}))
    kept = study.study.get_trials(deepcopy=False)
    assert study.thinned and len(kept) <= MOST
    assert max(trial.params["a"] for trial in kept if trial.value is not None) > 0.999
    asked = [study.question(MOST + 200 + number)[0]() for number in range(8)]
    assert asked == [study.question(MOST + 200 + number)[0]() for number in range(8)]
    assert np.mean([params["a"] for params in asked]) > 0.8, "it asks where the good ones were"


def test_a_question_knows_all_that_was_told() -> None:
    """Also what was told after an earlier question."""
    study = Study(Description(("k",), {"a": Float(0, 1)}, {}), higher_is_better=True)
    rng = np.random.default_rng(0)
    told = iter(range(1000))

    def tell(count: int, around: float) -> None:
        for _ in range(count):
            a = float(np.clip(around + 0.02 * rng.normal(), 0, 1))
            study.tell(Fit("s", "search", next(told), {"a": a}, 0, "complete", a))

    def asked() -> float:
        return float(np.median([study.question(500 + number)[0]()["a"] for number in range(9)]))

    tell(30, 0.1)
    assert asked() < 0.4
    tell(60, 0.9)
    assert asked() > 0.8


def smooth(params: Mapping[str, Any]) -> float:
    return (math.log10(params["rate"]) + 2.3) ** 2 + 0.1 * (params["b"] == "x") + 0.01 * params["decay"]


def test_where_fits_take_long_the_best_of_a_smooth_function_is_found_sooner() -> None:
    """Beside the estimator that quick ones are asked by, on the same number of trials, some of which were ended early."""
    space = {"rate": Float(1e-5, 1.0, log=True), "decay": Float(0, 1), "b": Categorical(("x", "y"))}
    best: dict[bool, list[float]] = {True: [], False: []}
    for slow in (True, False):
        for seed in range(3):
            study = Study(Description(("k",), space, {}), higher_is_better=False, seed=seed)
            for start in range(0, 32, 4):
                beside: list[dict[str, Any]] = []
                for number in range(start, start + 4):
                    beside.append(study.question(number, beside if slow else None)[0]())
                for number, params in enumerate(beside, start):
                    value = smooth(params)
                    pruned = number > 8 and value > 3
                    fit = Fit(
                        "s", "search", number, params, 0, "pruned" if pruned else "complete", None if pruned else value
                    )
                    study.tell(replace(fit, facts={"losses": [value + 1] * (1 if pruned else 3)}))
            best[slow].append(min(fit.value for fit in study.ended if fit.value is not None))
            asked = [study.question(33, [])[0](), study.question(33, [])[0]()]
            assert asked[0] == asked[1] != study.question(33, [asked[0]])[0](), "it asks what is under way already"
    assert np.median(best[True]) < np.median(best[False])


def test_a_trial_that_was_ended_is_likened_to_those_that_stood_where_it_did() -> None:
    whole = [Fit("s", "search", n, {"a": n}, 0, "complete", 0.9 - n / 10, {"losses": [n, n / 2]}) for n in range(5)]
    ended = Fit("s", "search", 5, {"a": 5}, 0, "pruned", None, {"losses": [3.1]})
    unlike = Fit("s", "search", 6, {"a": 6}, 0, "pruned", None, {"losses": [1, 1, 1]})
    found = expected([*whole, ended, unlike], -1.0)
    assert [value for _, value in found[:5]] == [-fit.value for fit in whole if fit.value is not None]
    assert found[5:] == [({"a": 5}, pytest.approx(-np.mean([0.7, 0.6, 0.5])))]


def test_where_none_has_been_finished_nothing_is_expected() -> None:
    """Nor may a question fail for it."""
    study = Study(Description(("k",), {"a": Float(0, 1)}, {}), higher_is_better=True)
    for number in range(12):
        study.tell(Fit("s", "search", number, {"a": number / 12}, 0, "pruned", None, {"losses": [1.0]}))
    assert expected(study.ended, -1.0) == [] and 0 <= study.question(13, [])[0]()["a"] <= 1


def test_history_is_the_best_so_far() -> None:
    fits = [Fit("s", "search", n, {}, 0, "complete" if v else "pruned", v) for n, v in enumerate((None, 0.5, 0.3, 0.7))]
    assert history(fits, 4, True) == [None, 0.5, 0.5, 0.7]
    assert history(fits, 4, False) == [None, 0.5, 0.3, 0.3]


@pytest.mark.slow
def test_tune_tells_what_mattered_and_exports(tiny: Path, bakeoff: Command) -> None:
    """Two tasks, the second started warm; both studies readable by Optuna, and complete after a second export."""
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
