"""Raises its resource limits, and looks for control groups that it could join or change.

Hopes to use more than its limits.
"""

import os
import resource
from pathlib import Path

from _base import GotThrough, Ignorant, attempt

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: run by root, it may raise them"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        for name in ("RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_NPROC", "RLIMIT_CORE"):
            number = getattr(resource, name)
            hard = resource.getrlimit(number)[1]
            if hard == resource.RLIM_INFINITY:
                raise GotThrough(f"{name} has no limit")
            try:
                resource.setrlimit(number, (hard + 1, hard + 1))
            except (ValueError, OSError):
                continue
            raise GotThrough(f"raised {name} to {hard + 1}")
        attempt("a better priority", lambda: os.nice(-5))
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for folder in (Path("/sys/fs/cgroup", controllers, path.strip("/")), Path("/sys/fs/cgroup", controllers)):
                attempt(f"leaves {folder}", lambda folder=folder: (folder / "cgroup.procs").write_text("0"))
        attempt("oom score", lambda: Path("/proc/self/oom_score_adj").write_text("-1000"))
