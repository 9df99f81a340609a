"""Starts a process while it is imported that leaves everything it can leave, and has the server adopt no orphans.

Hopes to live on when the entry has ended: nobody knows of it then.
"""

import ctypes
import os

from _base import Ignorant

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: a process that leaves its parent while it is imported is not found again"}
SUBREAPER, DEATH_SIGNAL = 36, 1

ctypes.CDLL(None).prctl(SUBREAPER, 0, 0, 0, 0)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, 0, 0, 0, 0)
        for fd in range(3, 64):
            try:
                os.close(fd)
            except OSError:
                pass
        os.execvp("sleep", ["daemon-from-import", "300"])
    os._exit(0)


class Attack(Ignorant):
    pass
