"""Punches holes into the answer's file and discards its pages, again and again, from a thread that continues after the answer.

Hopes that the parent reads discarded pages.
"""

import ctypes
import mmap
import os
import threading

from _base import Ignorant
from _channel import memory_files

VERDICT = {"status": ["complete", "invalid"], "chance": True}
KEEP_SIZE_AND_PUNCH = 3


class Attack(Ignorant):
    def predict(self, x):
        libc = ctypes.CDLL(None)
        fds = memory_files()

        def punch():
            while True:
                for fd in fds:
                    libc.fallocate(fd, KEEP_SIZE_AND_PUNCH, ctypes.c_long(0), ctypes.c_long(os.fstat(fd).st_size or 1))
                    libc.madvise(0, mmap.PAGESIZE, mmap.MADV_DONTNEED)

        threading.Thread(target=punch, daemon=True).start()
        return super().predict(x)
