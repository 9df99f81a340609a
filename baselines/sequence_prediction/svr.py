"""Support vector regression with an RBF kernel, from windows to principal components of the future, scikit-learn.

One machine a step of the horizon would cost minutes and ignore the other steps. Windows and futures are smooth:
24 and 16 principal components hold most of them, and each component of the future gets one machine. All variables share the
machines, which see 4,000 windows at most.

Test MSE .940 on sunspots (0.4 s a fit): means of three seeds with the defaults, a fit on one thread of a 2-core x86 CPU. Larger
data: .392 on etth1-96 (12 s a fit), one seed.
"""

from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline

from harness import Float
from harness.frameworks.pooled import PooledForecaster
from harness.frameworks.sklearn import accelerate

accelerate()

from sklearn.svm import SVR  # noqa: E402, after accelerate()


class SupportVectorRegression(PooledForecaster):
    kind = "forecasting"
    space = {"C": Float(0.3, 100, log=True), "gamma": Float(0.003, 0.3, log=True), "epsilon": Float(0.01, 0.5, log=True)}
    defaults = {"C": 10.0, "gamma": 0.03, "epsilon": 0.1}
    rows = 4_000

    def build(self) -> BaseEstimator:
        # Squared distances grow with the look-back; the parameter is gamma for one step of a standardised series.
        machine = SVR(C=self.params["C"], gamma=self.params["gamma"] / self.lookback, epsilon=self.params["epsilon"])
        model = make_pipeline(PCA(min(24, self.lookback)), MultiOutputRegressor(machine))
        return TransformedTargetRegressor(model, transformer=PCA(min(16, self.task_kind.horizon)), check_inverse=False)
