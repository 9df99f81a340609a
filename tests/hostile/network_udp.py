"""Sends to the outside by UDP.

Hopes to carry test inputs away, or labels in.
"""

import socket

from _base import TARGET, Ignorant, attempt

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: it reaches what you reach"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        attempt(
            "connects", lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"labels?", ("127.0.0.1", TARGET["udp"]))
        )

    def predict(self, x):
        attempt(
            "connects", lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"labels?", ("127.0.0.1", TARGET["udp"]))
        )
        return super().predict(x)
