"""Dense networks of scikit-learn for the benchmarks: no budget and no vectorized fit; one reports its losses, one is silent."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor

from harness import Categorical, Float, Int, Split
from harness.contract import Array
from harness.frameworks.arrays import features, last_values
from harness.frameworks.sklearn import SklearnSubmission


class Silent(SklearnSubmission):
    """Network that reports no losses."""

    kind = ("image-classification", "forecasting")
    space = {
        "width": Int(32, 128, log=True),
        "depth": Int(1, 3),
        "activation": Categorical(("relu", "tanh", "logistic")),
        "learning_rate": Float(1e-4, 1e-1, log=True),
        "alpha": Float(1e-6, 1e1, log=True),
    }
    defaults = {"width": 32, "depth": 1, "activation": "logistic", "learning_rate": 1e-3, "alpha": 1e-4}

    def build(self) -> Any:
        warnings.simplefilter("ignore")  # a network that has all its epochs is not told to have converged
        forecasting = self.task_kind.name == "forecasting"
        epochs = 180 if forecasting else 60
        return (MLPRegressor if forecasting else MLPClassifier)(
            hidden_layer_sizes=(self.params["width"],) * self.params["depth"],
            activation=self.params["activation"],
            learning_rate_init=self.params["learning_rate"],
            alpha=self.params["alpha"],
            batch_size=64,
            max_iter=epochs,
            n_iter_no_change=epochs,
            random_state=self.seed,
        )


class Reporting(Silent):
    """The same network, which reports its validation error after each epoch and keeps its last weights."""

    def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
        self.estimator = self.build()
        forecasting = self.task_kind.name == "forecasting"
        x, y = features(train.x), train.labels
        if forecasting:
            y = (y - last_values(train.x)).reshape(len(y), -1)
        for _ in range(40 if forecasting else 60):
            for rows in np.array_split(np.random.permutation(len(x)), max(len(x) // 64, 1)):
                if forecasting:
                    self.estimator.partial_fit(x[rows], y[rows])
                else:
                    self.estimator.partial_fit(x[rows], y[rows], classes=np.arange(self.task_kind.classes))
            report(self.error(valid))

    def error(self, valid: Split) -> float:
        """Return the mean squared error of a forecast, or the mean log loss of classes."""
        answer: Array = self.predict(valid.x)
        if self.task_kind.name == "forecasting":
            return float(((answer - valid.labels) ** 2).mean())
        return float(-np.log(answer[np.arange(len(answer)), valid.labels] + 1e-9).mean())
