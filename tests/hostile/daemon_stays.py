"""Leaves a process running that has left its parent, its group and its session; the next fit looks for it.

Hopes to compute beyond its time limit, and to meet the next fit.
"""

import os
import time

from _base import GotThrough, Ignorant
from harness import Float

VERDICT = {"status": "complete", "chance": True}
OPTIONS = {"trials": 3}
NAME = "daemon-that-stays"


def named_so():
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/cmdline") as file:
                if entry.isdigit() and NAME in file.read():
                    yield int(entry)
        except OSError:
            pass


class Attack(Ignorant):
    space = {"a": Float(0, 1)}

    def fit(self, train, valid, report):
        if found := list(named_so()):
            raise GotThrough(f"finds its process {found}")
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execvp("sleep", [NAME, "300"])
            os._exit(0)
        ends = time.monotonic() + 5
        while not list(named_so()) and time.monotonic() < ends:
            time.sleep(0.01)
