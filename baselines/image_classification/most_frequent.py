"""The most frequent class, whatever the input; its probabilities are the class frequencies of the training set: the floor.

Test accuracy .102 on digits (0.0 s a fit), .098 on digits-40 (0.0 s), .102 on digit-rows (0.0 s), .505 on adding (0.0 s): means
of three seeds with the defaults, a fit on one thread of a 2-core x86 CPU.
"""

from collections.abc import Callable

import numpy as np

from harness import Split, Submission


class MostFrequent(Submission):
    kind = ("image-classification", "sequence-classification")

    def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
        counts = np.bincount(train.labels, minlength=self.task_kind.classes)
        self.frequencies = (counts / counts.sum()).astype(np.float32)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.tile(self.frequencies, (len(x), 1))
