"""Allocates memory without end.

Hopes that the kernel kills another process.
"""

from _base import Ignorant

VERDICT = {"status": "out-of-memory"}
OPTIONS = {"limits": "tight"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        kept = []
        while True:
            kept.append(bytearray(b"x" * 10_000_000))
