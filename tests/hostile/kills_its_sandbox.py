"""Kills its server, the first process of its sandbox, and all other processes that it may.

Hopes that the parent waits for a dead process, or that the replacement is less restricted.
"""

import os
import signal
import time

from _base import Ignorant

VERDICT = {"status": "failed"}
TIERS = {"process": "not promised: everything that it may kill is everything that you may"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        for pid in (1, os.getppid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        os.kill(-1, signal.SIGKILL)
        time.sleep(1000)
