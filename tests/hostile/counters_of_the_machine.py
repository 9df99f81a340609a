"""Reads every number outside its own processes under /proc and /sys, twice, with much work of all sorts in between.

Hopes for one that has moved: what this sandbox moves, another one reads.
"""

import os
import socket
import threading
import time
from pathlib import Path

import numpy as np

from _base import GotThrough, Ignorant

VERDICT = {"status": "complete", "chance": True}
TIERS = {
    "process": "not promised: it can read what you can",
    "sandbox-b": "not promised: /proc is there, and what it counts",
}


def numbers():
    found = {}
    for top in ("/proc", "/sys"):
        for folder, folders, files in os.walk(top):
            if folder == "/proc":
                folders[:] = [name for name in folders if not name.isdigit() and name not in ("self", "thread-self")]
            for name in files:
                path = Path(folder, name)
                try:
                    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                        found[str(path)] = file.read(1 << 16)
                except OSError:
                    continue
    return found


class Attack(Ignorant):
    def fit(self, train, valid, report):
        before = numbers()
        kept = [np.ones(1 << 20) for _ in range(8)]
        threads = [threading.Thread(target=time.sleep, args=(0.2,)) for _ in range(20)]
        for thread in threads:
            thread.start()
        pipes, pairs = [os.pipe() for _ in range(50)], [socket.socketpair() for _ in range(50)]
        Path("written").write_bytes(bytes(1 << 20))
        for _ in range(20):
            if os.fork() == 0:
                os._exit(0)
            os.wait()
        sum(float(array.sum()) for array in kept)
        after = numbers()
        moved = [path for path in before if before[path] != after.get(path)]
        if moved:
            raise GotThrough(f"moves {moved[:20]}")
        for thread in threads:
            thread.join()
        for pair in (*pipes, *pairs):
            for end in pair:
                end.close() if hasattr(end, "close") else os.close(end)
        return super().fit(train, valid, report)
