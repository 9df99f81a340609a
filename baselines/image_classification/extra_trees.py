"""Extremely randomised trees on raw values, scikit-learn: splits are drawn at random too. Geurts, Ernst and Wehenkel 2006.

Test accuracy .980 on digits (0.7 s a fit), .829 on digits-40 (0.1 s), .980 on digit-rows (0.4 s), .627 on adding (4.1 s): means
of three seeds with the defaults, a fit on one thread of a 2-core x86 CPU.
"""

import os

from harness import Float, Int
from harness.frameworks.sklearn import SklearnSubmission, accelerate

accelerate()

from sklearn.ensemble import ExtraTreesClassifier  # noqa: E402, after accelerate()


class ExtraTrees(SklearnSubmission):
    kind = ("image-classification", "sequence-classification")
    space = {"trees": Int(50, 500, log=True), "max_features": Float(0.02, 0.3, log=True), "min_samples_leaf": Int(1, 5)}
    defaults = {"trees": 300, "max_features": 0.05, "min_samples_leaf": 1}

    def build(self) -> ExtraTreesClassifier:
        return ExtraTreesClassifier(self.params["trees"], max_features=self.params["max_features"],
                                    min_samples_leaf=self.params["min_samples_leaf"],
                                    n_jobs=int(os.environ.get("OMP_NUM_THREADS", "1")), random_state=self.seed)
