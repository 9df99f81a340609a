"""Stops itself and its server, so that neither can be told anything.

Hopes that somebody waits for them.
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
