"""Prints without end, from several processes and to both streams.

Hopes to fill the disk with its log, or the parent's memory.
"""

import os

from _base import Ignorant

VERDICT = {"status": "output-limit", "error": "printed more than"}
OPTIONS = {"limits": "tight"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        os.fork()
        while True:
            os.write(1, b"x" * 65536)
            os.write(2, b"\x1b[2J\n" * 10_000)
