"""Reads address 0.

Hopes to crash more than its own process.
"""

import ctypes

from _base import Ignorant

VERDICT = {"status": "failed", "error": "SIGSEGV"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        ctypes.string_at(0)
