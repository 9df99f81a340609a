"""Connects to the outside by an abstract socket, which has a name and no file.

Hopes to carry test inputs away, or labels in.
"""

import socket

from _base import TARGET, Ignorant, attempt

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: it reaches what you reach"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        attempt("connects", lambda: socket.socket(socket.AF_UNIX).connect("\0" + TARGET["abstract"]))

    def predict(self, x):
        attempt("connects", lambda: socket.socket(socket.AF_UNIX).connect("\0" + TARGET["abstract"]))
        return super().predict(x)
