"""Random forest on the last few tokens (Breiman 2001), scikit-learn.

Trees see the tokens as plain numbers. Leaf shares are smoothed, because a token that no leaf has seen must not have probability 0.
Training uses 200,000 positions at most. Every leaf holds a share for every token, so the leaf size limits memory.

Test nats 1.496 on brackets (3.8 s a fit): means of three seeds with the defaults, a fit on one thread of a 2-core x86 CPU.
Larger data: 1.859 on tiny-shakespeare (16 s a fit, .97 GB at its peak), one seed.
"""

import os
from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.ensemble import RandomForestClassifier

from harness import Int, Split, Submission
from harness.frameworks.arrays import smoothed_log

ROWS = 200_000


class ForestNgram(Submission):
    kind = "next-token"
    space = {"order": Int(3, 8), "min_samples_leaf": Int(3, 30, log=True)}
    defaults = {"order": 5, "min_samples_leaf": 5}

    def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
        rows = np.random.default_rng(self.seed).permutation(train.x.size)[:ROWS]
        self.forest = RandomForestClassifier(40, min_samples_leaf=self.params["min_samples_leaf"], max_features=0.6,
                                             random_state=self.seed, n_jobs=int(os.environ.get("OMP_NUM_THREADS", "1")))
        self.forest.fit(self.recent(train.x)[rows], train.labels.ravel()[rows])

    def recent(self, x: np.ndarray) -> np.ndarray:
        """Last tokens (n * t, order) at each position; positions before the chunk hold an extra token, ``vocabulary``."""
        order = self.params["order"]
        padded = np.pad(x, ((0, 0), (order - 1, 0)), constant_values=self.task_kind.vocabulary)
        return sliding_window_view(padded, order, axis=1).reshape(-1, order).astype(np.float32)

    def predict(self, x: np.ndarray) -> np.ndarray:
        p = np.zeros((x.size, self.task_kind.vocabulary))
        p[:, self.forest.classes_] = self.forest.predict_proba(self.recent(x))
        return smoothed_log(p, floor=1e-5).reshape(*x.shape, -1)

    def summary(self) -> str:
        return repr(self.forest)
