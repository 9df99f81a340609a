"""Starts a helper at import that takes memory when the fit begins; each of the two stays below the limit.

Hopes to use twice the memory that a fit may have.
"""

import mmap
import os
import time

from _base import Ignorant

VERDICT = {"status": "out-of-memory"}
OPTIONS = {"limits": "tight"}
SIGNAL = mmap.mmap(-1, 4096)
SHARE = 300_000_000

if os.fork() == 0:
    while not SIGNAL[0]:
        time.sleep(0.01)
    kept = bytearray(os.urandom(1 << 20)) * (SHARE >> 20)
    time.sleep(1000)


class Attack(Ignorant):
    def fit(self, train, valid, report):
        SIGNAL[0] = 1
        self.kept = bytearray(os.urandom(1 << 20)) * (SHARE >> 20)
        time.sleep(5)
        del self.kept
