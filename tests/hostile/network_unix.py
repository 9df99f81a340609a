"""Connects to the outside by a Unix socket in a folder.

Hopes to carry test inputs away, or labels in.
"""

import socket

from _base import TARGET, Ignorant, attempt

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: it reaches what you reach"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        attempt("connects", lambda: socket.socket(socket.AF_UNIX).connect(TARGET["unix"]))

    def predict(self, x):
        attempt("connects", lambda: socket.socket(socket.AF_UNIX).connect(TARGET["unix"]))
        return super().predict(x)
