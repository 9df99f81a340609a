"""Sends SIGSTOP and SIGKILL to a process of the parent's user, and checks whether it may signal any other.

Hopes to freeze the parent, or to end it before its own bad score is recorded.
"""

import os
import signal
from pathlib import Path

from _base import TARGET, Ignorant, attempt

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: it may kill what you may"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        for number in (signal.SIGSTOP, signal.SIGKILL, signal.SIGTERM):
            attempt(f"signal {number}", lambda number=number: os.kill(TARGET["victim"], number))
            attempt(f"signal {number} to a group", lambda number=number: os.killpg(TARGET["victim"], number))
        own = {os.getpid(), os.getppid()}
        if "bwrap" in Path("/proc/1/cmdline").read_text():
            own.add(1)  # first process of its own sandbox
        seen = {int(entry) for entry in os.listdir("/proc") if entry.isdigit()}
        for pid in {TARGET["parent"]} | seen - own:
            attempt(f"may signal {pid}", lambda pid=pid: os.kill(pid, 0))
