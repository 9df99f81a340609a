"""The most frequent target sequence of the training split, for every input.

Test exact match .102 on digit-spelling (0.0 s a fit), .000 on dates (0.0 s): means of three seeds with the defaults, a fit on
one thread of a 2-core x86 CPU. Exact: no chance and no time in it.
"""

from collections.abc import Callable

import numpy as np

from harness import Split, Submission


class MostFrequentSequence(Submission):
    kind = "transduction"

    def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
        sequences, counts = np.unique(train.labels, axis=0, return_counts=True)
        self.sequence = sequences[counts.argmax()]

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.tile(self.sequence, (len(x), 1))
