"""Writes many files, each of them small.

Hopes that a limit on a file's size is the only one.
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
