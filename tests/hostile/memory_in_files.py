"""Fills memory files without a name, as many as it can open.

Hopes that only mapped memory is counted.
"""

import os

from _base import GotThrough, Ignorant

VERDICT = {"status": ["out-of-memory", "failed"]}
OPTIONS = {"limits": "tight"}
TIERS = {
    "process": "not promised: where no control group counts, nameless files are not seen",
}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        piece = bytes(10_000_000)
        for _ in range(200):
            fd = os.memfd_create("hoard")
            os.write(fd, piece)
        raise GotThrough("has 2 GB in files")
