"""Connects to the outside by netlink, the interface to the kernel's network tables.

Hopes to carry test inputs away, or labels in.
"""

import socket

from _base import Ignorant, attempt

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: it reaches what you reach"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        attempt("connects", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))

    def predict(self, x):
        attempt("connects", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
        return super().predict(x)
