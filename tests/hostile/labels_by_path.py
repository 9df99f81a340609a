"""Opens known paths: the task's file, the store, a data file; directly, and through the parent's /proc folder.

Hopes for the hidden labels, even if the folders above them are hidden.
"""

import os
import runpy
from pathlib import Path

from _base import TARGET, GotThrough, Thief

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: it can read what you can"}


class Attack(Thief):
    def steal(self):
        parents = [f"/proc/{pid}/{way}" for pid in (TARGET["parent"], os.getppid(), 1) for way in ("root", "cwd")]
        for before in ("", *parents, "/proc/self/root", "/tmp/..", "//"):
            for path in (TARGET["secret"], TARGET["store"], TARGET["artefact"]):
                try:
                    content = Path(before + path).read_bytes()
                except OSError:
                    continue
                raise GotThrough(f"reads {before + path}: {content[:20]}")
            try:
                data = runpy.run_path(before + TARGET["task"])["load"]()
            except OSError:
                continue
            yield data.test.x, data.test.y
