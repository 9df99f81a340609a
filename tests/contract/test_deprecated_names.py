"""Plug-ins written for version 0.1 run, and warn with `DeprecationWarning` alone."""

from __future__ import annotations

import pickle
import runpy
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import harness
from harness import contract
from harness.contract import Kind, Measure, Metric, OutputSpec, Split, Submission, Task
from harness.frameworks.torch import TorchSubmission
from harness.kinds.image_classification import ImageClassification
from harness.kinds.image_generation import ImageGeneration
from harness.kinds.sequence_prediction import Forecasting

# The README of 0.1 had these three files.
PLANE = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from harness import Data, Form, InvalidPrediction, Kind, Measure, Metric, Split, Task

@dataclass(frozen=True)
class Regression(Kind):
    name: ClassVar[str] = "regression"
    metrics: ClassVar = (Metric("mae", higher_is_better=False),)

    def check(self, data): ...

    def forms(self, x):
        return (Form("numbers", (len(x),), "float64"),)

    def verify(self, answer, x):
        if not np.isfinite(answer).all():
            raise InvalidPrediction("predictions should be finite numbers")

    def measure(self, answer, split, train):
        return {"mae": Measure.mean_of(np.abs(answer - split.y))}

def load():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    y = x @ [1.0, -2.0, 3.0] + rng.normal(scale=0.1, size=400)
    return Data(Split(x[:200], y[:200]), Split(x[200:300], y[200:300]), Split(x[300:], y[300:]))

TASK = Task(name="plane", kind=Regression(), load=load, metric="mae")
"""
LEAST_SQUARES = """
import numpy as np
from harness import Submission

class LeastSquares(Submission):
    kind = "regression"
    def fit(self, train, valid, report):
        self.weights = np.linalg.lstsq(train.x, train.y)[0]
    def predict(self, x):
        return x @ self.weights
"""
THREE_OR_EIGHT = """
from sklearn.datasets import load_digits
from harness import ImageClassification, Task, stratified

def load():
    x, y = load_digits(return_X_y=True)
    keep = (y == 3) | (y == 8)
    images = (x[keep] * 15).astype("uint8").reshape(-1, 8, 8, 1)
    return stratified(images, (y[keep] == 8).astype(int), valid=0.2, test=0.3)

TASK = Task(name="three-or-eight", kind=ImageClassification(classes=2), load=load, metric="accuracy")
"""
X = np.arange(12.0).reshape(4, 3)


@contextmanager
def deprecated(*words: str) -> Iterator[None]:
    """Every warning of the block is a DeprecationWarning, and each of the words stands in one that blames this file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert {one.category for one in caught} <= {DeprecationWarning}, [str(one.message) for one in caught]
    told = [str(one.message) for one in caught if one.filename == __file__]
    for word in words:
        assert any(word in message for message in told), (word, [(str(one.message), one.filename) for one in caught])
    assert bool(words) == bool(caught), [str(one.message) for one in caught]


class Plain(Kind):
    """A kind with the new names."""

    name = "plain"
    metrics = (Metric("error", higher_is_better=False),)

    def check(self, data: Any) -> None:
        pass

    def output_specs(self, x: Any) -> Any:
        return (OutputSpec("numbers", (len(x),), "float64"),)

    def verify(self, answer: Any, x: Any) -> None:
        pass

    def measure(self, answer: Any, split: Any, train: Any) -> Any:
        return {"error": Measure.mean_of(np.abs(answer - split.y))}


def old_kind() -> Any:
    """A kind that defines all old names, made by a call so that the warnings can be caught."""

    class Old(Kind):
        name = "old"
        metrics = Plain.metrics
        check, verify, measure = Plain.check, Plain.verify, Plain.measure

        def forms(self, x: Any) -> Any:
            return (OutputSpec("numbers", (len(x),), "float64"),)

        def questions(self, x: Any, rng: Any) -> Any:
            asked, read = super().questions(x, rng)  # type: ignore[misc]
            return [*asked, asked[0]], read

        def remarks(self, metrics: Any) -> Any:
            return ("odd",)

    return Old


def test_a_kind_that_defines_old_names() -> None:
    with deprecated("Old.forms", "Old.questions", "Old.remarks", "output_specs", "queries", "flags"):
        old = old_kind()
    kind = old()
    with deprecated():
        assert kind.output_specs(X) == (OutputSpec("numbers", (4,), "float64"),)
        assert kind.flags({}) == ("odd",)
        assert type(kind).queries is not Kind.queries
    with deprecated("Kind.questions"):
        questions, read = kind.queries(X, np.random.default_rng(0))
    assert len(questions) == 2 and np.array_equal(read([question[:, 0] for question in questions]), X[:, 0])
    with deprecated("Old.forms"):
        assert kind.forms(X) == kind.output_specs(X)
    with deprecated():

        class Newer(old):  # type: ignore[misc]
            def flags(self, metrics: Any) -> Any:
                return (*super().flags(metrics), "newer")

        assert Newer().flags({}) == ("odd", "newer")
    with deprecated("Newer.remarks"):
        assert Newer().remarks({}) == ("odd", "newer")


def test_a_kind_that_extends_one_that_ships() -> None:
    with deprecated("Twice.questions", "Twice.forms"):

        @dataclass(frozen=True)
        class Twice(Forecasting):
            def questions(self, x: Any, rng: Any) -> Any:
                asked, read = super().questions(x, rng)  # type: ignore[misc]
                return asked, read

            def forms(self, x: Any) -> Any:
                return super().forms(x)  # type: ignore[misc]

        @dataclass(frozen=True)
        class Thrice(Twice):
            def questions(self, x: Any, rng: Any) -> Any:
                return super().questions(x, rng)

    kind = Thrice(horizon=2)
    with deprecated("Twice.questions", "Forecasting.questions", "Forecasting.forms"):
        assert len(kind.queries(X[..., None], np.random.default_rng(0))[0]) == 2
        assert kind.output_specs(X[..., None])[0].shape == (4, 2, 1)
    assert kind == Thrice(horizon=2) and repr(kind).endswith("Thrice(horizon=2, season=1)")


def test_a_kind_whose_mixin_defines_old_names() -> None:
    class Mixin:
        def forms(self, x: Any) -> Any:
            return ()

    with deprecated("Mixin.forms"):

        class Mixed(Mixin, Plain):
            pass

    assert Mixed().output_specs(X) == ()


def test_a_kind_without_answers_is_abstract_as_before() -> None:
    with deprecated(), pytest.raises(TypeError, match="output_specs"):

        class Nothing(Kind):
            name = "nothing"

        Nothing()  # type: ignore[abstract]


@pytest.mark.parametrize(
    ("kind", "old", "arguments"),
    [
        (Plain(), "forms", (X,)),
        (Plain(), "questions", (X, np.random.default_rng(0))),
        (Plain(), "remarks", ({},)),
        (ImageClassification(2), "forms", (X,)),
        (Forecasting(2), "questions", (X[..., None], np.random.default_rng(0))),
        (ImageGeneration(8, 8, 1, 2, "pixels"), "remarks", ({"memorisation": 1.0},)),
    ],
)
def test_old_methods_can_be_called(kind: Any, old: str, arguments: tuple[Any, ...]) -> None:
    new = {"forms": "output_specs", "questions": "queries", "remarks": "flags"}[old]
    with deprecated(old, new):
        found = getattr(kind, old)(*arguments)
    wanted = getattr(kind, new)(*arguments)
    assert old == "questions" or found == wanted
    with deprecated(old):
        getattr(Kind, old)


def test_a_submission_that_defines_the_old_name() -> None:
    with deprecated("Heeds.heeds_budget", "supports_budget"):

        class Heeds(TorchSubmission):
            kind = "regression"

            @classmethod
            def heeds_budget(cls) -> bool:
                return not super().heeds_budget()  # type: ignore[misc]

            def fit(self, train: Any, valid: Any, report: Any) -> None:
                pass

    with deprecated("TorchSubmission.heeds_budget"):
        assert Heeds.supports_budget() is True
    with deprecated("Heeds.heeds_budget"):
        assert Heeds.heeds_budget() is True
    with deprecated("Submission.heeds_budget"):
        assert Submission.heeds_budget() is False  # type: ignore[attr-defined]


def test_split_knows_its_old_field() -> None:
    facts = {"size": np.arange(4)}
    with deprecated("Split(about=...)", "metadata=..."):
        split = Split(X, X[:, 0], about=facts)  # type: ignore[call-arg]
    assert split.metadata is facts and Split(X, X[:, 0], None, facts).metadata is facts
    with deprecated("Split.about"):
        assert split.about is facts  # type: ignore[attr-defined]
    with deprecated():
        again = replace(split, y=X[:, 1])
    assert again.metadata is facts and np.array_equal(again.labels, X[:, 1])
    with pytest.warns(DeprecationWarning, match="about"):  # blames dataclasses.py
        assert replace(split, about={}).metadata == {}  # type: ignore[call-arg]
    with deprecated(), pytest.raises(contract.DataError, match="should know size of each"):
        Split(X, X[:, 0], metadata={"size": np.arange(3)})
    with deprecated():
        loaded = pickle.loads(pickle.dumps(split))
        assert np.array_equal(loaded.metadata["size"], facts["size"])
        assert [one.name for one in fields(Split)] == ["x", "y", "unlabelled", "metadata"]
        assert "metadata=" in repr(split) and "about" not in repr(split)


def test_task_knows_its_old_field() -> None:
    def load() -> Any:
        raise NotImplementedError

    kind, known = ImageClassification(2), {"row order": "as it came"}
    with deprecated("Task(known=...)", "accepted_findings=..."):
        task = Task("old", kind, load, "accuracy", known=known)  # type: ignore[call-arg]
    with deprecated():
        same = Task("old", kind, load, "accuracy", 1, 1800.0, "", contract.Limits(), known)
        assert task == same == Task("old", kind, load, "accuracy", accepted_findings=known)
        assert replace(task, version=2).accepted_findings == known
    with deprecated("Task.known"):
        assert task.known == known  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="unknown"):
        Task("old", kind, load, "accuracy", unknown=1)  # type: ignore[call-arg]


def test_form_is_imported_under_its_old_name() -> None:
    with deprecated("harness.Form", "harness.contract.Form", "write OutputSpec"):
        from harness import Form as one  # type: ignore[attr-defined]
        from harness.contract import Form as two  # type: ignore[attr-defined]
    assert one is two is OutputSpec is harness.OutputSpec
    for module in (harness, contract):
        with pytest.raises(AttributeError, match="no attribute 'Shape'"):
            module.Shape  # noqa: B018


def load_file(path: Path, source: str) -> SimpleNamespace:
    """A plug-in's namespace. Any warning in it but DeprecationWarning is an error."""
    path.write_text(source)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)
        return SimpleNamespace(**runpy.run_path(str(path)))


@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_files_of_the_first_readme_load(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match=r"Form|forms") as caught:
        runpy.run_path(str((tmp_path / "warned.py").write_text(PLANE) and tmp_path / "warned.py"))
    assert {str(one.filename) for one in caught} == {str(tmp_path / "warned.py")}
    plane, squares = load_file(tmp_path / "plane.py", PLANE), load_file(tmp_path / "squares.py", LEAST_SQUARES)
    data = plane.TASK.load()
    model = squares.LeastSquares({}, seed=0, device="cpu")
    model.fit(data.train, data.valid, print)
    answer = model.predict(data.test.x)
    assert plane.TASK.kind.output_specs(data.test.x)[0].accepts(answer)
    assert plane.TASK.kind.measure(answer, data.test, data.train)["mae"].of(np.arange(100)) < 0.1
    assert len(load_file(tmp_path / "three_or_eight.py", THREE_OR_EIGHT).TASK.load().test) > 50


def test_files_of_the_first_readme_run(tmp_path: Path) -> None:
    for name, source in (("plane", PLANE), ("least_squares", LEAST_SQUARES)):
        (tmp_path / f"{name}.py").write_text(source)
    command = [
        sys.executable,
        "-W",
        "error::FutureWarning",
        "-m",
        "harness.cli",
        "run",
        "plane.py",
        "-s",
        "least_squares.py",
    ]
    done = subprocess.run(
        [*command, "--no-site", "--seeds", "1"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "least-squares" in done.stdout and "mae" in done.stdout
