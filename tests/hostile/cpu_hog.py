"""Computes without end, well within its time on the clock.

Hopes that only wall time is limited.
"""

from _base import Ignorant

VERDICT = {"status": "cpu-limit"}
OPTIONS = {"limits": "tight"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        while True:
            pass
