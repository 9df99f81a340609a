"""Base of submissions that are a scikit-learn estimator, or any other object with ``fit`` and ``predict``.

An estimator sees float32 features (n, k): images flattened and scaled to 0..1, sequences flattened. Targets are labels (n,) for
classification; float32 (n, horizon * variables) for forecasting, relative to the last value of the window; tokens (n, length) for
transduction. Next-token and generation tasks need a submission of their own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from harness.contract import Array, Split, Submission
from harness.frameworks.arrays import features, last_values


def accelerate() -> bool:
    """Replace scikit-learn's estimators by those of scikit-learn-intelex; return False if it is not installed.

    Call this before the estimators are imported.
    """
    try:
        from sklearnex import patch_sklearn
    except ImportError:
        return False
    patch_sklearn(verbose=False)
    return True


class SklearnSubmission(Submission):
    """Base of scikit-learn submissions: set ``kind``, and return an unfitted estimator from ``build``."""

    estimator: Any

    @abstractmethod
    def build(self) -> Any:
        """Return an unfitted estimator, made from ``self.params`` and ``self.seed``."""

    def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
        self.estimator = self.build()
        y = train.labels
        if self.task_kind.name == "forecasting":
            y = (y - last_values(train.x)).reshape(len(y), -1)
        self.estimator.fit(features(train.x), y)

    def predict(self, x: Array) -> Array:
        name = self.task_kind.name
        if name == "forecasting":
            change = self.estimator.predict(features(x)).reshape(len(x), self.task_kind.horizon, -1)
            return np.asarray(change + last_values(x), dtype=np.float32)
        if name == "transduction" or not hasattr(self.estimator, "predict_proba"):
            return np.asarray(self.estimator.predict(features(x))).astype(np.int64)
        # An estimator knows only the classes in its training split.
        p = np.zeros((len(x), self.task_kind.classes), dtype=np.float32)
        p[:, self.estimator.classes_.astype(np.int64)] = self.estimator.predict_proba(features(x))
        return p

    def summary(self) -> str:
        return repr(self.estimator)
