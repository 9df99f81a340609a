"""Support vector machine with an RBF kernel on raw values, scikit-learn (scikit-learn-intelex where the machine allows).

Cortes and Vapnik 1995. The kernel's gamma is given in units of 1 / (features x variance), scikit-learn's "scale", so that one
value suits inputs of any size. It predicts labels: probabilities would cost a second, cross-validated fit.

Test accuracy .994 on digits (0.3 s a fit), .850 on digits-40 (0.1 s), .994 on digit-rows (0.1 s), .745 on adding (2.0 s): means
of three seeds with the defaults, a fit on one thread of a 2-core x86 CPU. Larger data: .902 on fashion-mnist (139 s a fit), one
seed; published, Xiao et al. 2017: .897.
"""

from collections.abc import Callable

from harness import Float, Split
from harness.frameworks.arrays import features
from harness.frameworks.sklearn import SklearnSubmission, accelerate

accelerate()

from sklearn.svm import SVC  # noqa: E402, after accelerate()


class SVM(SklearnSubmission):
    kind = ("image-classification", "sequence-classification")
    space = {"C": Float(0.5, 50, log=True), "gamma": Float(0.25, 8, log=True)}
    defaults = {"C": 10.0, "gamma": 2.5}

    def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
        x = features(train.x)
        self.scale = 1 / (x.shape[1] * float(x.var()))
        super().fit(train, valid, report)

    def build(self) -> SVC:
        return SVC(C=self.params["C"], gamma=self.params["gamma"] * self.scale)
