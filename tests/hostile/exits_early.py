"""Exits with code 0 before it has answered.

Hopes that the exit code counts as success.
"""

import os

from _base import Ignorant

VERDICT = {"status": "failed", "error": "ended before it answered"}


class Attack(Ignorant):
    def predict(self, x):
        os._exit(0)
