"""`bakeoff check` under ``python -O``, which drops every ``assert``: a plug-in that must fail fails there too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TASK = """
import numpy as np
from harness import ImageClassification, Task, stratified

def load():
    rng = np.random.default_rng()
    labels = np.arange(200) % 2
    images = np.clip(60 * labels[:, None, None] + rng.normal(100, 20, (200, 8, 8)), 0, 255).astype(np.uint8)
    return stratified(images[..., None], labels, valid=0.2, test=0.3)

class Upside(ImageClassification):
    def measure(self, answer, split, train):
        measures = super().measure(answer, split, train)
        return measures | {"accuracy": measures["calibration_error"]}

TASK = Task(name="upside", kind=Upside(classes=2), load=load, metric="accuracy")
"""
SUBMISSION = """
import numpy as np
from harness import Submission

class Chance(Submission):
    kind = "image-classification"
    def fit(self, train, valid, report):
        self.rng = np.random.default_rng()
    def predict(self, x):
        return self.rng.integers(0, 5, len(x)) if len(x) > 1 else np.array([9])
"""


def failures(folder: Path, source: str) -> str:
    """Lines of the checks that failed, under ``python -O``."""
    (folder / "plugin.py").write_text(source)
    command = [sys.executable, "-O", "-m", "harness.cli", "check", "plugin.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith("✗"))


@pytest.mark.slow
def test_a_broken_task_fails_without_assertions(tmp_path: Path) -> None:
    failed = failures(tmp_path, TASK)
    assert "the arrays differ from one load() to the next" in failed
    assert "for the truth and" in failed


def test_a_submission_of_chance_fails_without_assertions(tmp_path: Path) -> None:
    failed = failures(tmp_path, SUBMISSION)
    assert "two calls of predict on the same rows differ; use no chance in predict" in failed
    assert "predicting a row alone moves its answer by" in failed
    assert "a second fit with the same seed moves an answer by" in failed
