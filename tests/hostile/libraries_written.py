"""Writes into Python, its libraries and the harness itself: files, compiled files, start-up files.

Hopes that the next process, or the next start of the parent, runs the written code.
"""

import os
import site
import sys
from pathlib import Path

import numpy as np

import harness
from _base import Ignorant, attempt

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: it writes where you can"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        package = Path(harness.__file__).parent
        files = [package / "__init__.py", Path(np.__file__), Path(os.__file__), Path(sys.executable).resolve()]
        folders = [
            package,
            package / "__pycache__",
            *map(Path, site.getsitepackages()),
            Path(sys.prefix),
            Path("/usr/lib"),
        ]
        for path in files:
            attempt(f"opens {path}", lambda path=path: os.open(path, os.O_WRONLY))
            attempt(f"renames {path}", lambda path=path: os.rename(path, f"{path}.old"))
        for folder in folders:
            attempt(f"writes into {folder}", lambda folder=folder: (folder / "sitecustomize.py").write_text(""))
            attempt(f"writes into {folder}", lambda folder=folder: (folder / "evil.pth").write_text(""))
