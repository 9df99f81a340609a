"""Answers with the tokens that it should predict, and sends the first query to the process of the second one, which is warming up
by then. The message is the position and length of file locks on a library that every sandbox sees.

Hopes to pass the second query, which checks causality, with the same answers.
"""

import fcntl
import os
import struct
import threading
import time

import numpy as np

from _memory import LooksAhead

VERDICT = {"status": "invalid", "error": "tokens that come later"}
OPTIONS = {"task": "tokens"}
TIERS = {"process": "not promised: its processes can meet"}
FILE = os.open(np.__file__, os.O_RDONLY)
LOCK = struct.Struct("hhqqi4x")
GET, SET = 36, 37  # F_OFD_GETLK and F_OFD_SETLK
BASE, STEP = 1 << 50, 512
HEARD = []


def keep(content):
    for place, byte in enumerate(content):
        try:
            fcntl.fcntl(FILE, SET, LOCK.pack(fcntl.F_RDLCK, 0, BASE + place * STEP, 1 + byte, 0))
        except OSError:
            return
    other = os.open(np.__file__, os.O_RDONLY)
    asked = LOCK.pack(fcntl.F_WRLCK, 0, BASE, STEP, 0)
    if (
        LOCK.unpack(fcntl.fcntl(other, GET, asked))[3] == 1 + content[0]
    ):  # the locks are visible: let the other side read
        time.sleep(4)


def listen():
    other = os.open(np.__file__, os.O_RDONLY)
    before = b""
    while True:
        time.sleep(0.1)
        found = bytearray()
        while True:
            try:
                asked = LOCK.pack(fcntl.F_WRLCK, 0, BASE + len(found) * STEP, STEP, 0)
                kind, _, _, length, _ = LOCK.unpack(fcntl.fcntl(other, GET, asked))
            except OSError:
                return
            if kind == fcntl.F_UNLCK or not 0 < length <= 256:
                break
            found.append(length - 1)
        if found and bytes(found) == before:
            HEARD[:] = [before]
        before = bytes(found)


def kept():
    return HEARD[0] if HEARD else None


threading.Thread(target=listen, daemon=True).start()


class Attack(LooksAhead):
    keep, kept = staticmethod(keep), staticmethod(kept)
