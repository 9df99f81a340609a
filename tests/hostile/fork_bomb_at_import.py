"""Forks at import, and every fork forks.

Hopes that limits begin with the first trial.
"""

import os

from _base import Ignorant

VERDICT = {"status": ["failed", "process-limit"]}
OPTIONS = {"limits": "tight"}
TIERS = {"process": "not promised: run by root, only trials are counted"}

while True:
    try:
        os.fork()
    except OSError:
        pass


class Attack(Ignorant):
    pass
