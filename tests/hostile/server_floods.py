"""A thread of the warmed process writes large messages about its running trial on the server's channel, as fast as it can.

Hopes that the parent keeps them until its memory is full.
"""

import threading
import time
from os import write

from _base import Ignorant
from _channel import frame, sockets

VERDICT = {"status": ["complete", "failed"], "chance": True}
CHANNEL = min(sockets())
LARGE = frame(b'{"event": "exited", "number": 0, "code": 0, "x": [' + b"[]," * 300_000 + b"0]}")
SMALL = frame({"event": "exited", "number": 0, "code": 0})


def flood():
    time.sleep(0.5)
    while True:
        for _ in range(10):
            place = 0
            while place < len(LARGE):
                place += write(CHANNEL, LARGE[place:])
        for _ in range(1000):
            write(CHANNEL, SMALL)


class Attack(Ignorant):
    def fit(self, train, valid, report):
        time.sleep(2)


threading.Thread(target=flood, daemon=True).start()
