"""Starts at import a process that leaves its parent, group and session, and stops the server from adopting orphans.

Hopes that the process survives the entry unnoticed.
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
