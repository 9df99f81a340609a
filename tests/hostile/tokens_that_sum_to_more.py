"""Predicts probabilities that sum to 1.0099, which passes as rounding.

Hopes for a hundredth of a nat that nothing has earned.
"""

import numpy as np

from _base import Ignorant

VERDICT = {"status": "complete", "chance": True}
OPTIONS = {"task": "tokens"}


class Attack(Ignorant):
    kind = "next-token"

    def predict(self, x):
        return np.full((*x.shape, 4), -np.log(4) + np.log(1.0099), dtype=np.float32)
