"""Plug-ins of users, in folders outside the repository, and error messages for wrong ones."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, Command, write

import harness
from harness.errors import PluginError, UsageError
from harness.plugins import registry

SKLEARN = """
from sklearn.ensemble import ExtraTreesClassifier
from harness import Int
from harness.frameworks.sklearn import SklearnSubmission

class Trees(SklearnSubmission):
    kind = "image-classification"
    space = {"depth": Int(2, 20)}
    def build(self):
        return ExtraTreesClassifier(100, max_depth=self.params["depth"], random_state=self.seed)
"""

KERAS = """
import keras
from keras import layers
from harness import Float
from harness.frameworks.keras import KerasSubmission

class Dense(KerasSubmission):
    kind = "image-classification"
    space = {"learning_rate": Float(1e-4, 1e-2, log=True)}
    def build(self, train):
        return keras.Sequential([
            keras.Input(train.x.shape[1:]), layers.Flatten(), layers.Dense(64, activation="relu"),
            layers.Dense(self.task_kind.classes, activation="softmax")])
"""

TORCH = """
from torch import nn
from harness import Float, Int
from harness.frameworks.torch import TorchSubmission

class Net(TorchSubmission):
    kind = "image-classification"
    space = {"learning_rate": Float(1e-4, 1e-2, log=True), "width": Int(16, 128, log=True)}
    def build(self, train):
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(self.params["width"]), nn.ReLU(),
                             nn.Linear(self.params["width"], self.task_kind.classes))
"""

TASK = """
from sklearn.datasets import load_digits
from harness import ImageClassification, Task, stratified

def load():
    x, y = load_digits(return_X_y=True)
    keep = (y == 3) | (y == 8)
    images = (x[keep] * 15).astype("uint8").reshape(-1, 8, 8, 1)
    return stratified(images, (y[keep] == 8).astype(int), valid=0.2, test=0.3)

TASK = Task(name="three-or-eight", kind=ImageClassification(classes=2), load=load, metric="log_loss")
"""

KIND = '''
"""A kind of its own: one number for each row of numbers."""
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from harness import Data, DataError, OutputSpec, InvalidPrediction, Kind, Measure, Metric, Split, Submission, Task

@dataclass(frozen=True)
class Regression(Kind):
    name: ClassVar[str] = "regression"
    metrics: ClassVar = (Metric("rmse", False), Metric("mae", False))

    def check(self, data):
        if data.train.x.ndim != 2:
            raise DataError("x should be (n, columns)")

    def output_specs(self, x):
        return (OutputSpec("numbers", (len(x),), "float64"),)

    def verify(self, answer, x):
        if not np.isfinite(answer).all():
            raise InvalidPrediction("predictions should be finite")

    def measure(self, answer, split, train):
        error = answer - split.y
        rmse = Measure(lambda index: float(np.sqrt(np.square(error[index]).mean())))
        return {"rmse": rmse, "mae": Measure.mean_of(np.abs(error))}

def load():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    y = x @ [1.0, -2.0, 3.0] + rng.normal(scale=0.1, size=400)
    return Data(Split(x[:200], y[:200]), Split(x[200:300], y[200:300]), Split(x[300:], y[300:]))

TASK = Task(name="plane", kind=Regression(), load=load, metric="rmse")
'''

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


def lines(code: str) -> int:
    return len([line for line in code.strip().splitlines() if line.strip()])


def test_strangers_need_few_lines() -> None:
    assert lines(SKLEARN) <= 10 and lines(KERAS) <= 15 and lines(TORCH) <= 18 and lines(TASK) <= 15


@pytest.mark.parametrize(
    ("code", "least"),
    [
        (SKLEARN, 0.95),
        pytest.param(KERAS, 0.93, marks=pytest.mark.long),
        pytest.param(TORCH, 0.93, marks=pytest.mark.slow),
    ],
    ids=["sklearn", "keras", "torch"],
)
def test_a_strangers_model_runs_by_path(code: str, least: float, tmp_path: Path, bakeoff: Command) -> None:
    path = write(tmp_path, "mine.py", code)
    (row,) = json.loads(bakeoff("run", "digits", "-s", path, "--trials", 2, "--seeds", 1, "--json").stdout)["rows"]
    assert row["submission"] == "mine" and row["score"] >= least
    if code is not SKLEARN:
        assert row["n_parameters"] > 1000 and "64" in row["summary"] + str(row["params"])


def test_a_strangers_task_runs_by_path(tmp_path: Path, bakeoff: Command) -> None:
    write(tmp_path, "three_or_eight.py", TASK)
    write(tmp_path, "mine.py", SKLEARN)
    rows = json.loads(
        bakeoff("run", "three_or_eight.py", "-s", "mine.py", "-s", "most-frequent", "--trials", 1, "--json").stdout
    )["rows"]
    assert [row["submission"] for row in rows] == ["mine", "most-frequent"] and rows[0]["metric"] == "log_loss"
    assert rows[1]["score"] == pytest.approx(0.693, abs=0.01)


def test_a_strangers_kind_runs(tmp_path: Path, bakeoff: Command) -> None:
    write(tmp_path, "plane.py", KIND)
    write(tmp_path, "least_squares.py", LEAST_SQUARES)
    (row,) = json.loads(bakeoff("run", "plane.py", "-s", "least_squares.py", "--json").stdout)["rows"]
    assert row["kind"] == "regression" and row["score"] == pytest.approx(0.1, abs=0.03)
    assert row["ci_low"] < row["score"] < row["ci_high"]


def test_a_grader_that_fails_is_no_score(tmp_path: Path, bakeoff: Command) -> None:
    """An error in the task's own metric is reported as such and gives no failed row to the graded submission."""
    write(tmp_path, "plane.py", KIND.replace("error = answer - split.y", "raise RuntimeError('no grade')"))
    write(tmp_path, "least_squares.py", LEAST_SQUARES)
    done = bakeoff("run", "plane.py", "-s", "least_squares.py", code=2)
    assert "task plane: Regression.measure raised RuntimeError: no grade" in done.stderr
    assert "no results" in bakeoff("leaderboard", code=2).stderr


@pytest.mark.slow
def test_plugins_of_an_installed_package(tmp_path: Path, bakeoff: Command) -> None:
    """A real package with entry points, built and installed: a list imports none of it, a run imports it in the child."""
    source = tmp_path / "source"
    (source / "strangers").mkdir(parents=True)
    write(
        source / "strangers",
        "__init__.py",
        "import sys\nassert 'list' not in sys.argv, 'listing must not import submissions'\n",
    )
    write(source / "strangers", "trees.py", SKLEARN)
    write(source / "strangers", "task.py", TASK)
    write(
        source,
        "pyproject.toml",
        """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "strangers"
version = "1.0"
[project.entry-points."bakeoff.submissions"]
strange-trees = "strangers.trees:Trees"
[project.entry-points."bakeoff.tasks"]
three-or-eight = "strangers.task:TASK"
""",
    )
    site = tmp_path / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        site,
        source,
    ]
    subprocess.run(pip, check=True, capture_output=True, timeout=120)
    env = {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(site)])}
    assert "strange-trees" in bakeoff("list", "submissions", env=env).stdout
    done = bakeoff("run", "three-or-eight", "-s", "strange-trees", "--trials", 1, "--seeds", 1, "--json", env=env)
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["task"], row["submission"], row["status"]) == ("three-or-eight", "strange-trees", "complete")


def test_list_shows_everything_and_runs_no_submission(bakeoff: Command) -> None:
    listed = json.loads(bakeoff("list", "--json").stdout)
    tasks, submissions = ({plug["name"] for plug in listed[what]} for what in ("tasks", "submissions"))
    assert {
        "digits",
        "digit-rows",
        "sunspots",
        "digit-spelling",
        "digit-images",
        "fashion-mnist",
        "fashion-images",
        "etth1-96",
        "etth1-192",
        "etth1-336",
        "etth1-720",
        "tiny-shakespeare",
    } <= tasks
    assert {
        "svm",
        "random-forest",
        "most-frequent",
        "cnn-keras",
        "cnn-torch",
        "lstm",
        "gru",
        "gan",
        "ridge",
        "kneser-ney",
    } <= submissions
    assert all(plug["kinds"] and plug["help"] for plug in listed["submissions"])
    assert "digits" in bakeoff("list", "tasks").stdout


def test_every_kind_has_a_reference_an_svm_or_forest_and_networks() -> None:
    by_kind: dict[str, set[str]] = {}
    for source in registry.submissions().values():
        for kind in source.kinds:
            by_kind.setdefault(kind, set()).add(source.name)
    assert set(by_kind) == {
        "image-classification",
        "sequence-classification",
        "forecasting",
        "next-token",
        "transduction",
        "image-generation",
    }
    for kind, names in by_kind.items():
        text = {name: registry.submissions()[name].path.read_text() for name in names}
        assert any("frameworks.keras" in code or "import keras" in code for code in text.values()), kind
        assert any("torch" in code and "keras" not in code for code in text.values()), kind
        if kind != "image-generation":
            assert any("svm" in name or "svr" in name for name in names) and any("forest" in name for name in names), (
                kind
            )


def test_broken_plugins_are_skipped_with_their_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "good.py", SKLEARN)
    write(tmp_path, "bad.py", "class:\n")
    monkeypatch.setattr(registry, "shipped", lambda room: tmp_path)
    warnings: list[str] = []
    assert list(registry.submissions(warnings.append)) == ["good"]
    assert len(warnings) == 1 and "bad.py is not valid Python (line 1)" in warnings[0]


def test_two_of_one_name_are_an_error_that_names_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for room in ("one", "two"):
        (tmp_path / room).mkdir()
        write(tmp_path / room, "trees.py", SKLEARN)
    monkeypatch.setattr(registry, "shipped", lambda room: tmp_path)
    with pytest.raises(PluginError, match=r"one/trees.py and .*two/trees.py"):
        registry.submissions()
    with pytest.raises(UsageError, match="two submissions are called trees"):
        harness.run(
            str(write(tmp_path, "task.py", TASK)),
            [str(tmp_path / "one" / "trees.py"), str(tmp_path / "two" / "trees.py")],
            home=tmp_path / "home",
        )


def test_only_the_vote_imports_its_neighbours() -> None:
    names = {path.stem for path in (REPOSITORY / "baselines").rglob("*.py")}
    borrowers = {path.stem for path in (REPOSITORY / "baselines").rglob("*.py") if imported(path) & names}
    assert borrowers == {"voting"}


def test_every_baseline_opens_with_what_it_is() -> None:
    for path in (REPOSITORY / "baselines").rglob("*.py"):
        assert len(ast.get_docstring(ast.parse(path.read_text())) or "") > 60, path


def test_importing_harness_loads_nothing_heavy() -> None:
    def loaded(code: str) -> set[str]:
        code = f"import sys, {code}; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
        return set(done.stdout.split())

    heavy = {"torch", "keras", "sklearn", "pandas", "ray", "sqlalchemy"}
    assert not loaded("harness, leaderboard, harness.cli") & (heavy | {"optuna", "numpy"})
    assert not loaded("harness; harness.Task, harness.run, harness.ImageClassification") & heavy


def imported(path: Path) -> set[str]:
    """Modules that a file imports, ``from package import module`` included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names
