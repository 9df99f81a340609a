"""The k nearest neighbours in Euclidean distance on raw values, each with a vote, scikit-learn. Cover and Hart 1967.

Test accuracy .996 on digits (0.1 s a fit), .863 on digits-40 (0.0 s), .994 on digit-rows (0.1 s), .567 on adding (0.1 s): means
of three seeds with the defaults, a fit on one thread of a 2-core x86 CPU.
"""

import os

from harness import Categorical, Int
from harness.frameworks.sklearn import SklearnSubmission, accelerate

accelerate()

from sklearn.neighbors import KNeighborsClassifier  # noqa: E402, after accelerate()


class NearestNeighbours(SklearnSubmission):
    kind = ("image-classification", "sequence-classification")
    space = {"k": Int(1, 15), "weights": Categorical(("uniform", "distance"))}
    defaults = {"k": 1, "weights": "distance"}

    def build(self) -> KNeighborsClassifier:
        return KNeighborsClassifier(self.params["k"], weights=self.params["weights"], algorithm="brute",
                                    n_jobs=int(os.environ.get("OMP_NUM_THREADS", "1")))
