"""Ridge regression in closed form, from windows relative to their last value to futures relative to it.

All variables share one linear map. One eigendecomposition of the Gram matrix serves every penalty; the penalty with the
lowest validation error is kept. There is nothing left for a search to tune.

Test MSE .927 on sunspots (0.0 s a fit): means of three seeds with the defaults, a fit on one thread of a 2-core x86 CPU. Larger
data: .369 on etth1-96 (3.0 s a fit), .403 on etth1-192 (3.4 s), .425 on etth1-336 (4.0 s), .421 on etth1-720 (7.0 s); nothing
is drawn.
"""

from collections.abc import Callable

import numpy as np

from harness import Split, Submission
from harness.frameworks.arrays import last_values, pooled, unpooled

PENALTIES = np.logspace(-5, 1, 25)
"""Ridge penalties, relative to the mean eigenvalue of the Gram matrix so that one grid fits every size of data."""


class Ridge(Submission):
    kind = "forecasting"

    def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
        x, y = (pooled(part - last_values(train.x)) for part in (train.x, train.labels))
        values, vectors = np.linalg.eigh((x.T @ x).astype(np.float64))
        projected = vectors.T @ (x.T @ y)
        best = np.inf
        for penalty in PENALTIES * values.mean():
            weights = (vectors / (values + penalty) @ projected).astype(np.float32)
            loss = float(np.square(self.forecast(valid.x, weights) - valid.labels).mean())
            if loss < best:
                best, self.weights, self.penalty = loss, weights, penalty
        report(best)

    @staticmethod
    def forecast(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return unpooled(pooled(x - last_values(x)) @ weights, x.shape[2]) + last_values(x)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.forecast(x, self.weights)

    def n_parameters(self) -> int:
        return self.weights.size

    def summary(self) -> str:
        return f"{self.weights.shape[0]} lags to {self.weights.shape[1]} steps, penalty {self.penalty:.3g}"
