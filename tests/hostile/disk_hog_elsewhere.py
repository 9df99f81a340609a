"""Writes without end everywhere but in its own folder.

Hopes that only its own folder is measured.
"""

import os
import tempfile

from _base import GotThrough, Ignorant

VERDICT = {"status": ["disk-limit", "complete"], "chance": True}
OPTIONS = {"limits": "tight"}
TIERS = {"process": "not promised: it writes where you can"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        for folder in (
            "/dev/shm",
            "/tmp",
            "/var/tmp",
            "/run",
            "/",
            "/home",
            tempfile.gettempdir(),
            os.path.expanduser("~"),
        ):
            try:
                with open(os.path.join(folder, "large"), "wb") as file:
                    for _ in range(200):
                        file.write(bytes(1 << 20))
                raise GotThrough(f"wrote 200 MB into {folder}")
            except OSError:
                continue
            finally:
                try:
                    os.unlink(os.path.join(folder, "large"))
                except OSError:
                    pass
