"""Answers with the tokens that it should predict, and remembers the first query for the second in
files in every folder that can be written to.

Hopes to pass the second query, which checks causality, with the same answers.
"""

import os
import tempfile
from pathlib import Path

from _memory import LooksAhead

VERDICT = {"status": "invalid", "error": "tokens that come later"}
OPTIONS = {"task": "tokens"}
TIERS = {"process": "not promised: its processes can meet"}
FOLDERS = ("/tmp", "/dev/shm", "/var/tmp", "/run/lock", os.path.expanduser("~"), tempfile.gettempdir(), os.getcwd())


def keep(content):
    for folder in FOLDERS:
        try:
            Path(folder, "bakeoff-hostile-kept").write_bytes(content)
        except OSError:
            pass


def kept():
    for folder in FOLDERS:
        try:
            return Path(folder, "bakeoff-hostile-kept").read_bytes()
        except OSError:
            pass
    return None


class Attack(LooksAhead):
    keep, kept = staticmethod(keep), staticmethod(kept)
