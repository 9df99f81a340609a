"""Answers with the tokens that it should predict, and remembers the first query for the second in
a POSIX message queue, which has a name and no file.

Hopes to pass the second query, which checks causality, with the same answers.
"""

import ctypes
import os

from _memory import LooksAhead

VERDICT = {"status": "invalid", "error": "tokens that come later"}
OPTIONS = {"task": "tokens"}
TIERS = {"process": "not promised: its processes can meet"}
LIBC = ctypes.CDLL("librt.so.1", use_errno=True)
NAME, SIZE = b"/bakeoff-hostile", 8192


class Attributes(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_long), ("most", ctypes.c_long), ("size", ctypes.c_long), ("now", ctypes.c_long * 5)]


def keep(content):
    queue = LIBC.mq_open(NAME, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666, ctypes.byref(Attributes(0, 10, SIZE)))
    for start in range(0, len(content), SIZE):
        LIBC.mq_send(queue, content[start : start + SIZE], len(content[start : start + SIZE]), 0)


def kept():
    queue, pieces = LIBC.mq_open(NAME, os.O_RDWR | os.O_NONBLOCK), []
    room = ctypes.create_string_buffer(SIZE)
    while queue >= 0 and (size := LIBC.mq_receive(queue, room, SIZE, None)) > 0:
        pieces.append(room.raw[:size])
    if queue >= 0:
        LIBC.mq_unlink(NAME)
    return b"".join(pieces) or None


class Attack(LooksAhead):
    keep, kept = staticmethod(keep), staticmethod(kept)
