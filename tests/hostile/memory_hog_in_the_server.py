"""A thread of the warmed process, started at import, allocates the memory; the trial itself allocates none.

Hopes that only trials are counted.
"""

import os
import threading
import time

from _base import Ignorant

VERDICT = {"status": ["failed", "out-of-memory"]}
OPTIONS = {"limits": "tight"}
TIERS = {"process": "not promised: only trials are counted"}
SERVER = os.getpid()


def take():
    time.sleep(0.5)
    kept = []
    while len(kept) < 600:
        kept.append(b"x" * 10_000_000)
    print("GOT THROUGH: has 6 GB", flush=True)


threading.Thread(target=take, daemon=True).start()


class Attack(Ignorant):
    def fit(self, train, valid, report):
        time.sleep(6)
