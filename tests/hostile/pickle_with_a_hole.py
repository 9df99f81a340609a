"""Leaves a pickle that is a hole of thirty gigabytes, which costs its writer nothing.

Hopes that the parent copies it into memory of its own, zero by zero.
"""

import os

import numpy as np

from _base import Ignorant
from _channel import memory_files

VERDICT = {"status": ["complete", "failed", "invalid", "out-of-memory", "disk-limit", "timeout"]}
OPTIONS = {"task": "tokens", "limits": "tight"}


class Attack(Ignorant):
    kind = "next-token"

    def __reduce__(self):
        for fd in memory_files():
            try:
                os.ftruncate(fd, 29_000_000)
            except OSError:
                pass
        return super().__reduce__()

    def predict(self, x):
        return np.full((*x.shape, 4), -np.log(4), dtype=np.float32)
