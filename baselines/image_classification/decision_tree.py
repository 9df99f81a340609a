"""One decision tree on raw values, pruned by cost and complexity, scikit-learn. Breiman et al. 1984 (CART)."""

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
