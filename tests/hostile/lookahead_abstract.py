"""Answers with the tokens that it should predict, and remembers the first query for the second by means of
an abstract socket, held by a process that stays.

Hopes to pass the second query, which checks causality, with the same answers.
"""

import os
import socket

from _memory import LooksAhead

VERDICT = {"status": "invalid", "error": "tokens that come later"}
OPTIONS = {"task": "tokens"}
TIERS = {"process": "not promised: its processes can meet"}
NAME = "\0bakeoff-hostile"


def keep(content):
    if os.fork() == 0:
        os.setsid()
        try:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(NAME)
            listener.listen()
            while True:
                asking, _ = listener.accept()
                asking.sendall(content)
                asking.close()
        finally:
            os._exit(0)


def kept():
    pieces = []
    try:
        asking = socket.socket(socket.AF_UNIX)
        asking.connect(NAME)
        while piece := asking.recv(1 << 16):
            pieces.append(piece)
    except OSError:
        pass
    return b"".join(pieces) or None


class Attack(LooksAhead):
    keep, kept = staticmethod(keep), staticmethod(kept)
