"""A child takes too much memory and is killed for it; the trial itself goes on and answers.

Hopes that an exit code of zero is all that is looked at.
"""

import os

from _base import Ignorant

VERDICT = {"status": "out-of-memory"}
OPTIONS = {"limits": "tight"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        pid = os.fork()
        if pid == 0:
            kept = []
            while True:
                kept.append(bytearray(b"x" * 10_000_000))
        os.waitpid(pid, 0)
