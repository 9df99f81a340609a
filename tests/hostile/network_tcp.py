"""Connects to the outside by TCP.

Hopes to carry test inputs away, or labels in.
"""

import socket

from _base import TARGET, Ignorant, attempt

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: it reaches what you reach"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        attempt("connects", lambda: socket.create_connection(("127.0.0.1", TARGET["tcp"]), timeout=2))

    def predict(self, x):
        attempt("connects", lambda: socket.create_connection(("127.0.0.1", TARGET["tcp"]), timeout=2))
        return super().predict(x)
