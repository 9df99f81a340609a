"""Reports a loss a hundred thousand times: numbers, NaN, infinities, numbers too large for a float.

Hopes that the parent keeps and compares them all.
"""

from _base import Ignorant
from harness import Float

VERDICT = {"status": ["complete", "timeout"], "chance": True}
OPTIONS = {"trials": 1, "time_limit": 3}


class Attack(Ignorant):
    space = {"a": Float(0, 1)}

    def fit(self, train, valid, report):
        for number in range(25_000):
            for loss in (-1e308, float("nan"), float("inf"), 1.0 / (number + 1)):
                report(loss)
