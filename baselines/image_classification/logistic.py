"""Logistic regression on raw values, standardised, with an L2 or an L1 penalty, scikit-learn.

Under L2 the likelihood is climbed by L-BFGS, under L1 by SAGA (Defazio et al. 2014), which can set weights to 0.
"""

import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from harness import Categorical, Float
from harness.frameworks.sklearn import SklearnSubmission

# The last digits of a fit are not worth waiting for: iterations are few on purpose.
warnings.simplefilter("ignore", ConvergenceWarning)


class Logistic(SklearnSubmission):
    kind = ("image-classification", "sequence-classification")
    space = {"C": Float(1e-3, 10, log=True), "penalty": Categorical(("l2", "l1"))}
    defaults = {"C": 1.0, "penalty": "l2"}

    def build(self) -> Pipeline:
        lasso = self.params["penalty"] == "l1"
        model = LogisticRegression(C=self.params["C"], l1_ratio=float(lasso), solver="saga" if lasso else "lbfgs",
                                   max_iter=50 if lasso else 200, random_state=self.seed)
        return make_pipeline(StandardScaler(), model)
