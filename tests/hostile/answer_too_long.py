"""Ten times as many rows as requested.

Hopes: a parent that trusts the size from the child reads beyond its data.
"""

import numpy as np

from _base import Ignorant

VERDICT = {"status": "invalid", "error": "predict should return"}


class Attack(Ignorant):
    def predict(self, x):
        return np.zeros(10 * len(x), dtype=np.int64)
