"""Support vector machine with an RBF kernel on raw values, scikit-learn (scikit-learn-intelex where the machine allows).

Test accuracy: .993 on digits, .897 on fashion-mnist (mean of three seeds; fits of 78 to 148 s on one thread of a busy 2-core
x86 CPU; published, Xiao et al. 2017: .897). Probabilities are not asked for: they would cost a second, cross-validated fit.
"""

from harness import Categorical, Float
from harness.frameworks.sklearn import SklearnSubmission, accelerate

accelerate()

from sklearn.svm import SVC  # noqa: E402, after accelerate()


class SVM(SklearnSubmission):
    kind = ("image-classification", "sequence-classification")
    space = {"C": Float(0.5, 50, log=True), "gamma": Categorical(("scale", 0.003, 0.01, 0.03, 0.1))}
    defaults = {"C": 10.0, "gamma": "scale"}

    def build(self) -> SVC:
        return SVC(C=self.params["C"], gamma=self.params["gamma"])
