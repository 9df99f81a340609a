"""Searches every visible file for the task's file, the store and saved arrays, and runs or loads them.

Hopes for the hidden labels: a task's file loads them, a careless harness saves them.
"""

import os
import runpy
import time

import numpy as np

from _base import GotThrough, Thief

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: it can read what you can"}
SKIPPED = ("/proc", "/sys", "/usr", "/lib", "/lib64", "/bin", "/sbin")


class Attack(Thief):
    def steal(self):
        ends = time.monotonic() + 10
        for folder, folders, names in os.walk("/"):
            folders[:] = [name for name in folders if os.path.join(folder, name) not in SKIPPED]
            if "site-packages" in folder or time.monotonic() > ends:
                folders.clear()
            for name in names:
                path = os.path.join(folder, name)
                if name == "tiny.py":
                    data = runpy.run_path(path)["load"]()
                    yield data.test.x, data.test.y
                elif name.endswith((".sqlite", ".db")) and os.access(path, os.R_OK):
                    raise GotThrough(f"reads the store {path}")
                elif name == "secret.npy":
                    raise GotThrough(f"reads {np.load(path)}")
