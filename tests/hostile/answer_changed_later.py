"""Writes into its answer after it reported the answer as ready: valid labels first, then values that no check would accept.

Hopes that the scored answer is not the verified one.
"""

import mmap
import os
import threading

from _base import Ignorant
from _channel import memory_files

VERDICT = {"status": ["complete", "invalid"], "chance": True}


class Attack(Ignorant):
    def predict(self, x):
        maps = []
        for fd in memory_files():
            try:
                maps.append(mmap.mmap(fd, os.fstat(fd).st_size, mmap.MAP_SHARED))
            except (OSError, ValueError):
                pass

        def flip():
            while True:
                for place in maps:
                    place[:8] = (2**62).to_bytes(8, "little")
                    place[:8] = bytes(8)

        threading.Thread(target=flip, daemon=True).start()
        return super().predict(x)
