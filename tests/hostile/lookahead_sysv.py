"""Answers with the tokens that it should predict, and remembers the first query for the second in
System V shared memory, which belongs to no process.

Hopes to pass the second query, which checks causality, with the same answers.
"""

import ctypes

from _memory import LooksAhead

VERDICT = {"status": "invalid", "error": "tokens that come later"}
OPTIONS = {"task": "tokens"}
TIERS = {"process": "not promised: its processes can meet"}
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.shmat.restype = ctypes.c_void_p
LIBC.shmat.argtypes = ctypes.c_int, ctypes.c_void_p, ctypes.c_int
KEY, SIZE, MAKE = 0xBAE0FF, 1 << 20, 0o1666


def room(flags):
    number = LIBC.shmget(KEY, SIZE, flags)
    return LIBC.shmat(number, None, 0) if number >= 0 else None


def keep(content):
    if place := room(MAKE):
        ctypes.memmove(place + 8, content, len(content))
        ctypes.memmove(place, len(content).to_bytes(8, "big"), 8)


def kept():
    place = room(0o666)
    size = int.from_bytes(ctypes.string_at(place, 8), "big") if place else 0
    return ctypes.string_at(place + 8, size) if size else None


class Attack(LooksAhead):
    keep, kept = staticmethod(keep), staticmethod(kept)
