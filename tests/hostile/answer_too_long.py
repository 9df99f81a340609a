"""Ten times as many rows as were asked for.

Hopes: a parent that takes the child's size reads what it should not.
"""

import numpy as np

from _base import Ignorant

VERDICT = {"status": "invalid", "error": "predict should return"}


class Attack(Ignorant):
    def predict(self, x):
        return np.zeros(10 * len(x), dtype=np.int64)
