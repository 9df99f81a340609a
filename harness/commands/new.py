"""`bakeoff new`: write a short, complete plug-in to start from."""

from __future__ import annotations

import re
from pathlib import Path

from harness.errors import UsageError

SUBMISSIONS = {
    "sklearn": '''"""{title}: logistic regression. Replace build() with your estimator."""

from sklearn.linear_model import LogisticRegression

from harness import Float
from harness.frameworks.sklearn import SklearnSubmission


class {name}(SklearnSubmission):
    kind = "image-classification"
    space = {{"C": Float(1e-3, 1e3, log=True)}}

    def build(self):
        return LogisticRegression(C=self.params["C"], max_iter=500)
''',
    "keras": '''"""{title}: one dense layer. Replace build() with your model."""

import keras

from harness import Float
from harness.frameworks.keras import KerasSubmission


class {name}(KerasSubmission):
    kind = "image-classification"
    space = {{"learning_rate": Float(1e-4, 1e-1, log=True)}}

    def build(self, train):
        return keras.Sequential([
            keras.Input(train.x.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(self.task_kind.classes, activation="softmax")])
''',
    "torch": '''"""{title}: one hidden layer. Replace build() with your module."""

from torch import nn

from harness import Float, Int
from harness.frameworks.torch import TorchSubmission


class {name}(TorchSubmission):
    kind = "image-classification"
    space = {{"learning_rate": Float(1e-4, 1e-1, log=True), "width": Int(16, 256, log=True)}}

    def build(self, train):
        width = self.params["width"]
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.ReLU(), nn.Linear(width, self.task_kind.classes))
''',
}

TASK = '''"""{title}: horizontal or vertical stripes under noise, 8 x 8 pixels. Replace load() with your data."""

import numpy as np

from harness import ImageClassification, Task, stratified


def load():
    rng = np.random.default_rng(0)
    labels = np.arange(1000) % 2
    stripes = 40 * (np.indices((8, 8)) % 2)
    images = np.clip(stripes[labels] + rng.normal(100, 50, (1000, 8, 8)), 0, 255).astype(np.uint8)
    return stratified(images[..., None], labels, valid=0.2, test=0.3)


TASK = Task(name="{title}", kind=ImageClassification(classes=2), load=load, metric="accuracy")
'''


def create(what: str, name: str, framework: str) -> Path:
    """Write a template of a task or submission to NAME.py in the working folder, and return its path.

    ``what`` is "task" or "submission"; ``framework`` is "sklearn", "keras" or "torch". Raises UsageError for an invalid name, and
    if the file exists or cannot be written.
    """
    stem = name.replace("-", "_").lower()
    if not re.fullmatch(r"[a-z][a-z0-9_]*", stem):
        raise UsageError(f"a name should be letters, digits and hyphens, a letter first; it is {name!r}")
    path = Path(f"{stem}.py")
    words = {"title": stem.replace("_", "-"), "name": "".join(word.capitalize() for word in stem.split("_"))}
    try:
        with path.open("x") as out:
            out.write((TASK if what == "task" else SUBMISSIONS[framework]).format(**words))
    except FileExistsError:
        raise UsageError(f"{path} is there already; choose another name or remove it") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    return path
