"""Answers with the tokens that it should predict, and remembers the first query for the second in extended attributes of the memory
files of arrays and pickled models: a seal forbids only writes.

Hopes to pass the second query, which checks causality, with the same answers.
"""

import os

from _channel import memory_files
from _memory import LooksAhead

VERDICT = {"status": "invalid", "error": "tokens that come later"}
OPTIONS = {"task": "tokens"}
TIERS = {"process": "not promised: its processes can meet"}
HELD = []


def hold():
    """Duplicate descriptors that the worker is about to close."""
    HELD.extend(os.dup(fd) for fd in memory_files())


def keep(content):
    hold()
    for fd in HELD:
        for number in range(0, len(content), 30_000):
            try:
                os.setxattr(fd, f"user.{number:09}", content[number : number + 30_000])
            except OSError:
                pass


def kept():
    hold()
    for fd in HELD:
        try:
            pieces = [os.getxattr(fd, name) for name in sorted(os.listxattr(fd)) if name.startswith("user.")]
        except OSError:
            continue
        if pieces:
            return b"".join(pieces)
    return None


class Attack(LooksAhead):
    keep, kept = staticmethod(keep), staticmethod(kept)

    def __getstate__(self):
        hold()
        return self.__dict__

    def __setstate__(self, state):
        hold()
        self.__dict__ = state
