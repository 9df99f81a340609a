"""Fits a model whose pickle is written without end.

Hopes to fill the machine's memory through a file that belongs to the parent.
"""

import os

import numpy as np

from _base import Ignorant
from _channel import memory_files

VERDICT = {"status": ["out-of-memory", "disk-limit", "timeout", "failed"]}
OPTIONS = {"task": "tokens", "limits": "tight"}


class Attack(Ignorant):
    kind = "next-token"

    def __reduce__(self):
        piece = bytes(1 << 20)
        while True:
            for fd in memory_files():
                try:
                    os.write(fd, piece)
                except PermissionError:  # sealed: an array, not the file of this pickle
                    pass

    def predict(self, x):
        return np.full((*x.shape, 4), -np.log(4), dtype=np.float32)
