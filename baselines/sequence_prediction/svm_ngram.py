"""Linear support vector machines on the n-grams that end at a token, one machine for each next token, scikit-learn.

The last 1 to 5 tokens are hashed into one of 65,536 features each. Margins are no probabilities: one temperature, fitted on the
validation split, converts them. Training uses 60,000 positions at most.

Test nats 1.481 on brackets (3.9 s a fit): means of three seeds with the defaults, a fit on one thread of a 2-core x86 CPU.
Larger data: 2.258 on tiny-shakespeare (8 s a fit), one seed. More positions score better, but training is slow.
"""

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_matrix
from scipy.special import softmax
from sklearn.svm import LinearSVC

from harness import Float, Int, Split, Submission
from harness.frameworks.arrays import smoothed_log

ROWS, BITS = 60_000, 16


class SVMNgram(Submission):
    kind = "next-token"
    space = {"C": Float(0.01, 1, log=True), "order": Int(2, 6)}
    defaults = {"C": 0.1, "order": 5}
    inverse_temperature = 1.0

    def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
        rows = np.random.default_rng(self.seed).permutation(train.x.size)[:ROWS]
        self.machines = LinearSVC(C=self.params["C"], tol=1e-2, random_state=self.seed)
        self.machines.fit(self.features(train.x)[rows], train.labels.ravel()[rows])
        margins, y = self.margins(valid.x), valid.labels.ravel()[:, None]

        def nats(log_inverse: float) -> float:
            return -float(np.take_along_axis(smoothed_log(softmax(margins * np.exp(log_inverse), axis=1)), y, axis=1).mean())

        self.inverse_temperature = float(np.exp(minimize_scalar(nats, bounds=(-3, 4), method="bounded").x))

    def features(self, x: np.ndarray) -> csr_matrix:
        """Sparse indicators (n * t, 2**BITS) of the hashed 1-grams to order-grams that end at each position."""
        order = self.params["order"]
        start = self.task_kind.vocabulary  # pads the context before the chunk
        recent = sliding_window_view(np.pad(x, ((0, 0), (order - 1, 0)), constant_values=start), order, axis=1).reshape(-1, order)
        codes, state = np.empty(recent.shape, np.int32), np.zeros(len(recent), np.uint64)
        for n in range(order):
            state = (state + recent[:, -1 - n].astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)  # Knuth's hash
            codes[:, n] = state >> np.uint64(64 - BITS)
        ends = np.arange(0, codes.size + 1, order)
        return csr_matrix((np.ones(codes.size), codes.ravel(), ends), shape=(len(codes), 1 << BITS))

    def margins(self, x: np.ndarray) -> np.ndarray:
        """Margins (n * t, vocabulary); tokens absent from training get a large negative one."""
        margins = np.full((x.size, self.task_kind.vocabulary), -3.0)
        margins[:, self.machines.classes_] = self.machines.decision_function(self.features(x))
        return margins

    def predict(self, x: np.ndarray) -> np.ndarray:
        return smoothed_log(softmax(self.margins(x) * self.inverse_temperature, axis=1)).reshape(*x.shape, -1)

    def n_parameters(self) -> int:
        return self.machines.coef_.size + self.machines.intercept_.size
