"""One decision tree on raw values, pruned by cost and complexity, scikit-learn. Breiman et al. 1984 (CART).

Test accuracy .859 on digits (0.1 s a fit), .502 on digits-40 (0.1 s), .859 on digit-rows (0.1 s), .527 on adding (1.0 s): means
of three seeds with the defaults, a fit on one thread of a 2-core x86 CPU.
"""

from sklearn.tree import DecisionTreeClassifier

from harness import Categorical, Float, Int
from harness.frameworks.sklearn import SklearnSubmission


class DecisionTree(SklearnSubmission):
    kind = ("image-classification", "sequence-classification")
    space = {"criterion": Categorical(("gini", "entropy")), "ccp_alpha": Float(1e-5, 1e-2, log=True),
             "min_samples_leaf": Int(1, 10)}
    defaults = {"criterion": "entropy", "ccp_alpha": 1e-4, "min_samples_leaf": 2}

    def build(self) -> DecisionTreeClassifier:
        return DecisionTreeClassifier(**self.params, random_state=self.seed)

    def n_parameters(self) -> int:
        return int(self.estimator.tree_.node_count)
