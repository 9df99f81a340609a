"""Stops itself and its server with SIGSTOP, so that neither reads messages.

Hopes that the parent waits for them forever.
"""

import os
import signal

from _base import Ignorant

VERDICT = {"status": ["timeout", "failed"]}
OPTIONS = {"time_limit": 2}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        os.kill(os.getppid(), signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
