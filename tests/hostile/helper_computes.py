"""Starts a helper at import that computes for the fits, which only wait for it.

Hopes that the limit on CPU time counts the fit alone.
"""

import os
import time

from _base import Ignorant

VERDICT = {"status": "cpu-limit"}
OPTIONS = {"limits": "tight"}

if os.fork() == 0:
    while True:
        sum(range(10000))


class Attack(Ignorant):
    def fit(self, train, valid, report):
        time.sleep(15)
