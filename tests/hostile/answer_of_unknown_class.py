"""A label beyond the last class.

Hopes: an index beyond the last may reach other memory.
"""

import numpy as np

from _base import Ignorant

VERDICT = {"status": "invalid", "error": "should lie in 0..2"}


class Attack(Ignorant):
    def predict(self, x):
        return np.full(len(x), 3)
