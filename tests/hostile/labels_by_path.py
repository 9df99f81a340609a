"""Opens what it knows the paths of: the task's file, the store, a data file; directly, and through the parent's /proc folder.

Hopes for the hidden labels, past whatever hides the folders above them.
"""

import os
import runpy
from pathlib import Path

from _base import TOLD, GotThrough, Thief

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: it can read what you can"}


class Attack(Thief):
    def steal(self):
        parents = [f"/proc/{pid}/{way}" for pid in (TOLD["parent"], os.getppid(), 1) for way in ("root", "cwd")]
        for before in ("", *parents, "/proc/self/root", "/tmp/..", "//"):
            for path in (TOLD["secret"], TOLD["store"], TOLD["artefact"]):
                try:
                    content = Path(before + path).read_bytes()
                except OSError:
                    continue
                raise GotThrough(f"reads {before + path}: {content[:20]}")
            try:
                data = runpy.run_path(before + TOLD["task"])["load"]()
            except OSError:
                continue
            yield data.test.x, data.test.y
