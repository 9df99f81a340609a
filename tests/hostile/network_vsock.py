"""Connects to the outside by vsock, the interface to the host of a virtual machine.

Hopes to carry test inputs away, or labels in.
"""

import socket

from _base import Ignorant, attempt

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: it reaches what you reach"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        attempt("connects", lambda: socket.socket(socket.AF_VSOCK).connect((2, 1024)))

    def predict(self, x):
        attempt("connects", lambda: socket.socket(socket.AF_VSOCK).connect((2, 1024)))
        return super().predict(x)
