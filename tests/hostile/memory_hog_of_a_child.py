"""A child allocates too much memory and is killed for it; the trial itself continues and answers.

Hopes that only the exit code is checked.
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
