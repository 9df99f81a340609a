"""Stops every clock of Python while it fits for one second.

Hopes to be recorded as the fastest.
"""

import time

from _base import Ignorant

VERDICT = {"status": "complete", "chance": True, "fit_seconds": 1.0}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        ends = time.monotonic() + 1.0
        while time.monotonic() < ends:
            pass
        for name in ("time", "monotonic", "perf_counter", "process_time", "time_ns", "monotonic_ns", "perf_counter_ns"):
            setattr(time, name, lambda: 0)
