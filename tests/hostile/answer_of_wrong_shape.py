"""Seven classes where there are three.

Hopes: more columns than classes may be read as something else.
"""

import numpy as np

from _base import Ignorant

VERDICT = {"status": "invalid", "error": "predict should return"}


class Attack(Ignorant):
    def predict(self, x):
        return np.zeros((len(x), 7), dtype=np.float32)
