"""Answers with the tokens that it should predict, and remembers the first query for the second in
a mapping made while it was imported, shared by all forks.

Hopes to pass the second query, which checks causality, with the same answers.
"""

import mmap

from _memory import LooksAhead

VERDICT = {"status": "invalid", "error": "tokens that come later"}
OPTIONS = {"task": "tokens"}
TIERS = {"process": "not promised: its processes can meet"}
ROOM = mmap.mmap(-1, 1 << 20)


def keep(content):
    ROOM[8 : 8 + len(content)] = content
    ROOM[:8] = len(content).to_bytes(8, "big")


def kept():
    size = int.from_bytes(ROOM[:8], "big")
    return ROOM[8 : 8 + size] or None


class Attack(LooksAhead):
    keep, kept = staticmethod(keep), staticmethod(kept)
