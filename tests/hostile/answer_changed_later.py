"""Goes on writing into its answer after it said that it had answered: valid labels, then values that no check would let through.

Hopes that what is scored is not what was verified.
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
