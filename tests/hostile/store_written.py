"""Writes to the store, to another entry's artefacts and to a file of the user's: opens, links, renames, changes rights, removes.

Hopes to record a made-up score, or to delete another entry's.
"""

import os
import sqlite3
from pathlib import Path

from _base import TARGET, Ignorant, attempt

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: it writes where you can"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        for name in ("store", "artefact", "secret", "task"):
            path = TARGET[name]
            attempt(f"opens {path}", lambda path=path: os.open(path, os.O_WRONLY))
            attempt(f"appends to {path}", lambda path=path: os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
            attempt(f"truncates {path}", lambda path=path: os.truncate(path, 0))
            attempt(f"changes the rights of {path}", lambda path=path: changed(path, os.chmod, 0o777))
            attempt(f"changes the owner of {path}", lambda path=path: changed(path, os.chown, 1234, 1234))
            attempt(f"changes the times of {path}", lambda path=path: changed(path, os.utime, (1, 1)))
            attempt(f"renames {path}", lambda path=path: os.rename(path, path + ".gone"))
            attempt(f"links {path}", lambda path=path: os.link(path, "linked"))
            attempt(f"writes beside {path}", lambda path=path: Path(path + "-journal").write_text("x"))
            attempt(f"removes {path}", lambda path=path: os.unlink(path))
        attempt("writes a canary", lambda: Path(TARGET["canary"]).write_text("x"))
        try:
            sqlite3.connect(f"file:{TARGET['store']}?mode=rw", uri=True).execute("UPDATE results SET score = 1")
        except sqlite3.Error:
            pass


def changed(path, action, *arguments):
    """Act on ``path`` and check for a change: a filter may report success and do nothing."""
    before = os.stat(path)
    action(path, *arguments)
    after = os.stat(path)
    if (before.st_mode, before.st_uid, before.st_mtime) == (after.st_mode, after.st_uid, after.st_mtime):
        raise PermissionError
