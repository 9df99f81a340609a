"""Forecasts a window from the look-back of later windows, each taken as it stands and turned round.

Hopes that the second query turns windows round, so that the same set of windows is in both.
"""

import numpy as np

from _base import Ignorant

VERDICT = {"status": "invalid", "error": "other windows"}
OPTIONS = {"task": "series"}


class Attack(Ignorant):
    kind = "forecasting"

    def predict(self, x):
        horizon, length = self.task_kind.horizon, min(6, x.shape[1] - 1)
        answer = np.repeat(x[:, -1:], horizon, axis=1).astype(np.float32)
        known = {}
        for window in np.concatenate([x, x[:, ::-1]]):
            for start in range(x.shape[1] - length):
                known.setdefault(window[start : start + length].tobytes(), window[start + length])
        for row, window in enumerate(x):
            tail = list(window[-length:])
            for step in range(horizon):
                following = known.get(np.ascontiguousarray(tail[-length:]).tobytes())
                if following is None:
                    break
                answer[row, step:] = following
                tail.append(following)
        return answer
