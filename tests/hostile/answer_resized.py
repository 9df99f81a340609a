"""Shrinks and grows the file of its answer, and all other files that it received.

Hopes that the parent reads past the end and dies of SIGBUS, or pays for a terabyte.
"""

import fcntl
import os

from _base import Ignorant, attempt
from _channel import memory_files

VERDICT = {"status": "complete", "chance": True}


class Attack(Ignorant):
    def predict(self, x):
        for fd in memory_files():
            attempt("shrinks", lambda fd=fd: os.ftruncate(fd, 1))
            attempt("grows", lambda fd=fd: os.ftruncate(fd, 1 << 40))
            attempt("allocates", lambda fd=fd: os.posix_fallocate(fd, 0, 1 << 32))
            attempt("writes behind the end", lambda fd=fd: os.pwrite(fd, b"x" * 8192, os.fstat(fd).st_size))
            # A further seal binds only itself: the parent does not write there.
            try:
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
            except OSError:
                pass
        return super().predict(x)
