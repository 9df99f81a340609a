"""Random forest on raw values, scikit-learn (scikit-learn-intelex where the machine allows). Breiman 2001.

Test accuracy .976 on digits (0.2 s a fit), .788 on digits-40 (0.1 s), .975 on digit-rows (0.2 s), .535 on adding (1.3 s): means
of three seeds with the defaults, a fit on one thread of a 2-core x86 CPU. Larger data: .878 on fashion-mnist (66 to 71 s a
fit), mean of three seeds; published, Xiao et al. 2017: .873.
"""

import os

from harness import Float, Int
from harness.frameworks.sklearn import SklearnSubmission, accelerate

accelerate()

from sklearn.ensemble import RandomForestClassifier  # noqa: E402, after accelerate()


class RandomForest(SklearnSubmission):
    kind = ("image-classification", "sequence-classification")
    space = {"trees": Int(50, 200, log=True), "max_features": Float(0.02, 0.1, log=True), "min_samples_leaf": Int(1, 5)}
    defaults = {"trees": 100, "max_features": 0.05, "min_samples_leaf": 1}

    def build(self) -> RandomForestClassifier:
        return RandomForestClassifier(self.params["trees"], max_features=self.params["max_features"],
                                      min_samples_leaf=self.params["min_samples_leaf"],
                                      n_jobs=int(os.environ.get("OMP_NUM_THREADS", "1")), random_state=self.seed)
