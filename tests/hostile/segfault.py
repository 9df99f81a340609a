"""Reads address 0.

Hopes to take more than its own process down.
"""

import ctypes

from _base import Ignorant

VERDICT = {"status": "failed", "error": "SIGSEGV"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        ctypes.string_at(0)
