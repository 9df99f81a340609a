"""A search sees validation scores: no object that can be reached from it holds the hidden targets."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest  # noqa: TC002
from conftest import write

from harness.commands.tune import tune
from harness.contract import Data
from harness.scoring import Scorer
from harness.search.outcome import SearchResult
from harness.search.scheduler import Search

TASK = """
import numpy as np
from harness import Data, ImageClassification, Split, Task

def load():
    rng = np.random.default_rng(0)
    def part(n):
        y = rng.integers(0, 2, n)
        return Split((rng.integers(0, 99, (n, 4, 4, 1)) + 99 * y[:, None, None, None]).astype("uint8"), y)
    return Data(part(90), part(50), part(43))

TASK = Task(name="shades", kind=ImageClassification(classes=2), load=load, metric="accuracy")
"""
MODEL = """
from sklearn.neighbors import KNeighborsClassifier
from harness import Int
from harness.frameworks.sklearn import SklearnSubmission

class Near(SklearnSubmission):
    kind = "image-classification"
    space = {"n_neighbors": Int(1, 9)}
    def build(self):
        return KNeighborsClassifier(**self.params)
"""


def reachable(root: object) -> Iterator[object]:
    """Every object that can be reached from another, through attributes, containers and closures.

    Modules, classes and the globals of functions belong to the program and are left out.
    """
    seen, stack = {id(root)}, [root]
    while stack:
        current = stack.pop()
        yield current
        if isinstance(current, FunctionType):
            below: list[Any] = [current.__closure__, current.__defaults__, current.__kwdefaults__, current.__dict__]
        else:
            below = gc.get_referents(current)
        for one in below:
            if id(one) not in seen and not isinstance(one, (type, ModuleType, FrameType)):
                seen.add(id(one))
                stack.append(one)


def hidden_holders(root: object, targets: Any) -> list[str]:
    """Types of reachable objects that hold all splits, score the test, or are equal to the hidden targets."""
    return [
        type(one).__name__
        for one in reachable(root)
        if isinstance(one, (Data, Scorer))
        or (isinstance(one, np.ndarray) and one.shape == targets.shape and bool((one == targets).all()))
    ]


def test_no_object_of_a_search_holds_the_hidden_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    namespace: dict[str, Any] = {}
    exec(TASK, namespace)
    hidden = namespace["load"]().test.y
    found: list[list[str]] = []
    run = Search.run

    def run_and_look(self: Search) -> SearchResult:
        result = run(self)
        found.append(hidden_holders(self, hidden))
        return result

    monkeypatch.setattr(Search, "run", run_and_look)
    tune(str(write(tmp_path, "shades.py", TASK)), str(write(tmp_path, "near.py", MODEL)), trials=3, home=tmp_path)
    assert found == [[]]


def test_the_look_finds_targets_where_they_are() -> None:
    namespace: dict[str, Any] = {}
    exec(TASK, namespace)
    data = namespace["load"]()
    scorer = Scorer(namespace["TASK"], data, "")
    assert {"Scorer", "Data", "ndarray"} <= set(hidden_holders({"deep": [lambda: scorer]}, data.test.y))
