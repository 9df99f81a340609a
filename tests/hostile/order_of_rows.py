"""Answers by the place of a row alone, on a task whose file has its classes in order.

Hopes that test rows are asked about in the file's order.
"""

import numpy as np

from _base import Ignorant

VERDICT = {"status": "complete", "chance": True}
OPTIONS = {"task": "sorted"}


class Attack(Ignorant):
    def predict(self, x):
        return np.sort(np.arange(len(x)) % 3)
