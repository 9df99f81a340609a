"""Fits at once and never returns from predict.

Hopes that the time limit ends with the fit.
"""

import time

from _base import Ignorant

VERDICT = {"status": "timeout", "error": "took more than"}
OPTIONS = {"time_limit": 2}


class Attack(Ignorant):
    def predict(self, x):
        time.sleep(1000)
