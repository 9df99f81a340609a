"""Looks ahead for every fifth window alone, and takes what follows from any later window that shows it.

Hopes that none of these windows is among the ones that are asked again.
"""

import numpy as np

from _base import Ignorant

VERDICT = {"status": "invalid", "error": "other windows"}
OPTIONS = {"task": "series"}


class Attack(Ignorant):
    kind = "forecasting"

    def predict(self, x):
        horizon = self.task_kind.horizon
        answer = np.repeat(x[:, -1:], horizon, axis=1).astype(np.float32)
        ends = {window[-1].tobytes() for window in x}
        for window in x:
            for place in range(x.shape[1] - horizon):
                if window[place].tobytes() in ends and hash(window[place].tobytes()) % 5 == 0:
                    rows = [row for row in range(len(x)) if x[row, -1].tobytes() == window[place].tobytes()]
                    answer[rows] = window[place + 1 : place + 1 + horizon]
        return answer
