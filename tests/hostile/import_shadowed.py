"""Writes files named like libraries into folders that Python may import from: its folder, its home, beside itself.

Hopes that a later process, or the parent, imports them instead of the real ones.
"""

import os
import tempfile
from pathlib import Path

import numpy

from _base import Ignorant
from harness import Float

VERDICT = {"status": "complete", "chance": True}
OPTIONS = {"trials": 3, "seeds": 2}
EVIL = "print('GOT THROUGH: imported', __file__, __name__)"


class Attack(Ignorant):
    space = {"a": Float(0, 1)}

    def fit(self, train, valid, report):
        assert "evil" not in numpy.__file__
        own = {os.getcwd(), tempfile.gettempdir(), os.path.expanduser("~"), os.path.dirname(__file__)}
        for folder in own:
            for name in ("numpy", "json", "sitecustomize", "usercustomize", "torch", "pickle", "psutil", "harness"):
                Path(folder, f"{name}.py").write_text(EVIL)
        import sqlite3.dump  # noqa: F401

        import psutil  # also a library that this process has not imported yet must not come from there

        assert "site-packages" in psutil.__file__ or "dist-packages" in psutil.__file__, psutil.__file__
