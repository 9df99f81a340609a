"""Writes many files, each of them small.

Hopes that only the size of a single file is limited.
"""

import itertools
from pathlib import Path

from _base import Ignorant

VERDICT = {"status": "disk-limit"}
OPTIONS = {"limits": "tight"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        for number in itertools.count():
            Path(f"small-{number}").write_bytes(bytes(100_000))
