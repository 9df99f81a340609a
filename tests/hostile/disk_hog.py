"""Writes one file without end.

Hopes to fill the disk of the store.
"""

from _base import Ignorant

VERDICT = {"status": "disk-limit"}
OPTIONS = {"limits": "tight"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        with open("large", "wb") as file:
            while True:
                file.write(bytes(1 << 20))
