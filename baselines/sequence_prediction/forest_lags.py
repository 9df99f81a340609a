"""Random forest on lags (Breiman 2001), scikit-learn: one forest forecasts the whole horizon, of any variable.

Trees split on single lags and answer with 16 principal components of the future, so that a long horizon costs no more than
a short one. The forest sees 20,000 windows at most. It averages futures of the training split and cannot leave their range.

Test MSE 1.522 on sunspots (0.5 s a fit): means of three seeds with the defaults, a fit on one thread of a 2-core x86 CPU.
Larger data: .420 on etth1-96 (49 s a fit), one seed. On sunspots it is worse than the seasonal naive.
"""

import os

from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor

from harness import Float, Int
from harness.frameworks.pooled import PooledForecaster


class ForestLags(PooledForecaster):
    kind = "forecasting"
    space = {"min_samples_leaf": Int(1, 30, log=True), "max_features": Float(0.03, 0.5, log=True)}
    defaults = {"min_samples_leaf": 3, "max_features": 0.1}
    rows = 20_000

    def build(self) -> BaseEstimator:
        threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
        forest = RandomForestRegressor(50, **self.params, random_state=self.seed, n_jobs=threads)
        return TransformedTargetRegressor(forest, transformer=PCA(min(16, self.task_kind.horizon)), check_inverse=False)
