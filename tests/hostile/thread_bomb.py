"""Starts threads without end.

Hopes that threads do not count as processes.
"""

import threading
import time

from _base import Ignorant

VERDICT = {"status": "process-limit"}
OPTIONS = {"limits": "tight"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        while True:
            threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
