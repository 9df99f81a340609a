"""Objects where numbers are wanted.

Hopes: objects travel as pickles, and a pickle runs when it is read.
"""

import numpy as np

from _base import Ignorant

VERDICT = {"status": "invalid", "error": "predict should return"}


class Attack(Ignorant):
    def predict(self, x):
        return np.array([["1.0"] * 3] * len(x), dtype=object)
