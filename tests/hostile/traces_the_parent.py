"""Attaches to the parent and to others with ptrace, by process id and by descriptor.

Hopes to read and change the parent's memory.
"""

import ctypes
import os

from _base import TARGET, Ignorant, attempt

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: it may trace what you may"}
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206


class Attack(Ignorant):
    def fit(self, train, valid, report):
        libc = ctypes.CDLL(None, use_errno=True)

        def ptrace(request, pid):
            if libc.ptrace(request, pid, 0, 0) < 0:
                raise OSError(ctypes.get_errno(), "ptrace")

        for pid in (TARGET["victim"], TARGET["parent"], os.getppid(), 1):
            attempt(f"attaches to {pid}", lambda pid=pid: ptrace(PTRACE_ATTACH, pid))
            attempt(f"seizes {pid}", lambda pid=pid: ptrace(PTRACE_SEIZE, pid))
            attempt(f"opens {pid}", lambda pid=pid: os.pidfd_open(pid))
