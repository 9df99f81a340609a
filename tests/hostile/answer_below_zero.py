"""A class below the first.

Hopes: Python counts negative indices from the end, so -1 would be the last class.
"""

import numpy as np

from _base import Ignorant

VERDICT = {"status": "invalid", "error": "should lie in 0..2"}


class Attack(Ignorant):
    def predict(self, x):
        return np.full(len(x), -1)
