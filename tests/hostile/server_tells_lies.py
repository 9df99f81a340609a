"""A thread of the warmed process reports on the server's channel the exit of running trials and of trials that never existed.

Hopes that the parent believes it, or fails on unknown numbers.
"""

import threading
import time
from os import write

from _base import Ignorant
from _channel import frame, sockets

VERDICT = {"status": ["complete", "failed"], "chance": True}
CHANNEL = min(sockets())


def tell():
    for number in [0, 1, 2, 99, -1, 10**30, "0", None, [], {"a": 1}] * 20:
        lie = {"event": "exited", "number": number, "code": 0, "peak_memory": 10**40, "cpu_seconds": 1e400}
        write(CHANNEL, frame(lie))
        write(
            CHANNEL,
            frame({"event": "exited", "number": number, "code": "SIGKILL", "peak_memory": [], "cpu_seconds": {}}),
        )
        time.sleep(0.01)


class Attack(Ignorant):
    def fit(self, train, valid, report):
        time.sleep(0.2)


def after_ready():
    time.sleep(0.3)
    tell()


threading.Thread(target=after_ready, daemon=True).start()
