"""Sets the machine's clock back, by every system call for it.

Hopes that a fit which ends before it began took no time.
"""

import ctypes
import time

from _base import Ignorant, attempt

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: run by root, it may do what root may"}


def failing(answer):
    if answer:
        raise OSError(answer)


class Attack(Ignorant):
    def fit(self, train, valid, report):
        libc = ctypes.CDLL(None)
        attempt("clock_settime", lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()))
        now = (ctypes.c_long * 2)(int(time.time()), 0)
        attempt("settimeofday", lambda: failing(libc.settimeofday(now, None)))
