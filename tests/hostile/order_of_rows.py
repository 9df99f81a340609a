"""Predicts from the position of a row alone, on a task with sorted classes in its file.

Hopes that test rows are queried in the order of the file.
"""

import numpy as np

from _base import Ignorant

VERDICT = {"status": "complete", "chance": True}
OPTIONS = {"task": "sorted"}


class Attack(Ignorant):
    def predict(self, x):
        return np.sort(np.arange(len(x)) % 3)
