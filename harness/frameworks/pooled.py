"""A scikit-learn regressor as a forecaster of any number of variables, on no more windows than it can bear.

Every variable's window is a row of its own, relative to its last value, and one regressor serves them all. It sees float32
lags (rows, look-back) and learns float32 futures (rows, horizon).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from harness.contract import Array, Split
from harness.frameworks.arrays import last_values, pooled, unpooled
from harness.frameworks.sklearn import SklearnSubmission


class PooledForecaster(SklearnSubmission):
    """Subclass, name the ``kind``, and return an unfitted regressor from ``build``."""

    rows: ClassVar[int] = 5_000
    """How many rows are learned from, drawn at random where there are more."""
    lookback: int
    """Steps in a window, known when ``build`` is called."""

    def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
        x, y = (pooled(part - last_values(train.x)) for part in (train.x, train.labels))
        rows = np.random.default_rng(self.seed).permutation(len(x))[: self.rows]
        self.lookback = x.shape[1]
        self.estimator = self.build()
        self.estimator.fit(x[rows], y[rows])

    def predict(self, x: Array) -> Array:
        change = self.estimator.predict(pooled(x - last_values(x))).reshape(-1, self.task_kind.horizon)
        return np.asarray(unpooled(change, x.shape[2]) + last_values(x), dtype=np.float32)
