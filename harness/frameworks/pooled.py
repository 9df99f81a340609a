"""Forecaster of any number of variables from one scikit-learn regressor, fitted on a limited number of windows.

Each window of each variable is one row, relative to its last value, and one regressor forecasts all variables. It sees float32 lags
(rows, lookback) and learns float32 futures (rows, horizon).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from harness.contract import Array, Split
from harness.frameworks.arrays import last_values, pooled, unpooled
from harness.frameworks.sklearn import SklearnSubmission


class PooledForecaster(SklearnSubmission):
    """Base of forecasters with one regressor for all variables: set ``kind``, and return an unfitted regressor from ``build``."""

    rows: ClassVar[int] = 5_000
    """Maximum number of rows in a fit, drawn at random from all rows."""
    lookback: int
    """Number of steps in a window, set before ``build`` is called."""

    def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
        x, y = (pooled(part - last_values(train.x)) for part in (train.x, train.labels))
        rows = np.random.default_rng(self.seed).permutation(len(x))[: self.rows]
        self.lookback = x.shape[1]
        self.estimator = self.build()
        self.estimator.fit(x[rows], y[rows])

    def predict(self, x: Array) -> Array:
        change = self.estimator.predict(pooled(x - last_values(x))).reshape(-1, self.task_kind.horizon)
        return np.asarray(unpooled(change, x.shape[2]) + last_values(x), dtype=np.float32)
