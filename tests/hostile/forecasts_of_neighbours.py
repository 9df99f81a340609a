"""Forecasts a window from the look-back of later windows, which hold its future, and keeps the first query in files
for the second.

Hopes that windows are not queried apart from their neighbours.
"""

import numpy as np

from _base import Ignorant
from lookahead_files import keep, kept

VERDICT = {"status": "invalid", "error": "depends on other windows"}
OPTIONS = {"task": "series"}
TIERS = {"process": "not promised: its processes can meet"}


class Attack(Ignorant):
    kind = "forecasting"

    def predict(self, x):
        horizon = self.task_kind.horizon
        content, questions = kept(), [x]
        if content:
            questions.append(np.frombuffer(content, np.float32).reshape(-1, *x.shape[1:]))
        elif len(x) == TEST:
            keep(np.ascontiguousarray(x).tobytes())
        answer = np.repeat(x[:, -1:], horizon, axis=1)
        for place, window in enumerate(x):
            for other in np.concatenate(questions):
                if np.array_equal(other[:-horizon], window[horizon:]) and not np.array_equal(other, window):
                    answer[place] = other[-horizon:]
        return answer


TEST = 80
