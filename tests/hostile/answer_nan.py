"""NaN in every place.

Hopes: a comparison with NaN is always false, so that a careless ranking puts it first.
"""

import numpy as np

from _base import Ignorant

VERDICT = {"status": "invalid", "error": "not finite"}


class Attack(Ignorant):
    def predict(self, x):
        return np.full((len(x), 3), np.nan, dtype=np.float32)
