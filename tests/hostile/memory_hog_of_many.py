"""Allocates memory in many processes, each of them below the limit.

Hopes that limits apply to a process, not to a trial.
"""

import os
import time

from _base import Ignorant

VERDICT = {"status": "out-of-memory"}
OPTIONS = {"limits": "tight"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        for _ in range(20):
            if os.fork() == 0:
                kept = bytearray(b"x" * 100_000_000)
                time.sleep(1000 + kept[0])
        time.sleep(1000)
