"""Shared fixtures and helpers: the command as a user types it, and a folder with a user's files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from leaderboard import Store

settings.register_profile("bakeoff", deadline=None, max_examples=50)  # no deadline: a busy machine is no failure
settings.load_profile("bakeoff")

REPOSITORY = Path(__file__).parent.parent
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bakeoff(tmp_path: Path) -> Command:
    """Run the command in an empty folder: ``bakeoff("run", "digits", code=0)`` checks the exit code."""

    def run(*arguments: object, code: int = 0, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "harness.cli", *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "BAKEOFF_HOME": "", "BAKEOFF_STORE": ""} | (env or {}),
        )
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


TINY_TASK = """
import numpy as np
from harness import ImageClassification, Task, stratified

def load():
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    x = (rng.normal(60 * y[:, None] + 50, 25, (300, 4)).clip(0, 255)).astype(np.uint8)
    return stratified(x.reshape(300, 2, 2, 1), y, valid=0.3, test=0.4)

TASK = Task(name="tiny", kind=ImageClassification(classes=3), load=load, metric="accuracy")
"""

TINY_MODEL = '''
import numpy as np
from harness import Float, Submission

class Nearest(Submission):
    """Nearest class mean, shrunk."""
    kind = "image-classification"
    space = {"shrink": Float(0.0, 0.9)}
    defaults = {"shrink": 0.0}

    def fit(self, train, valid, report):
        x = train.x.reshape(len(train), -1)
        means = np.stack([x[train.y == label].mean(axis=0) for label in range(self.task_kind.classes)])
        self.means = (1 - self.params["shrink"]) * means + self.params["shrink"] * x.mean(axis=0)

    def predict(self, x):
        flat = x.reshape(len(x), -1)
        return np.square(flat[:, None] - self.means).sum(axis=2).argmin(axis=1)
'''


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder with ``tiny.py``, a task that loads in milliseconds, and ``nearest.py``, a submission that needs numpy alone."""
    write(tmp_path, "tiny.py", TINY_TASK)
    write(tmp_path, "nearest.py", TINY_MODEL)
    return tmp_path


def hostile(
    folder: Path,
    name: str,
    fit: str = "pass",
    predict: str = "return np.zeros(len(x), dtype=np.int64)",
    top: str = "",
    space: str = "{}",
) -> Path:
    """Write a submission with the given statements in fit and predict; return its path."""

    def body(code: str) -> str:
        return "\n".join(f"        {line}" for line in code.strip().splitlines())

    return write(
        folder,
        f"{name}.py",
        f"""
import ctypes, os, signal, subprocess, sys, time
import numpy as np
from harness import Float, Submission
{top}

class Model(Submission):
    kind = "image-classification"
    space = {space}

    def fit(self, train, valid, report):
{body(fit)}

    def predict(self, x):
{body(predict)}
""",
    )


def table(home: Path, *columns: str) -> list[tuple[object, ...]]:
    store = Store(home, create=False)
    try:
        return [
            tuple(row) for row in store.database.read(f"SELECT {', '.join(columns)} FROM fits ORDER BY phase, number")
        ]
    finally:
        store.close()
