"""Lets a decoy report that the trial is awake, so that the decoy gets the limits; the warmed process itself does the work.

Hopes to use memory that is not counted.
"""

import os
import sys
import time

from _base import Ignorant

VERDICT = {"status": ["failed", "out-of-memory", "invalid", "timeout"]}
OPTIONS = {"limits": "tight"}
TIERS = {"process": "not promised: only trials are counted"}


def become_trial(self, message, fds):
    """In the fork that should become the trial, wait to be released, then continue in a child that the server forks."""
    import socket

    from harness.execution.shared.channel import Channel

    channel = Channel(socket.socket(fileno=fds[0]), takes_fds=True)
    channel.send({"event": "awake"})
    channel.receive()
    time.sleep(30)
    os._exit(0)


def obey(self):
    message, fds = self.channel.receive()
    pid = os.fork()
    if pid == 0:
        self.become_trial(message, fds)
    self.running[pid] = message["number"]
    time.sleep(0.5)
    kept = []
    while len(kept) < 600:
        kept.append(b"x" * 10_000_000)
    print("GOT THROUGH: has 6 GB", flush=True)


frame = sys._getframe()
while frame:
    server = frame.f_globals.get("Server")
    if hasattr(server, "become_trial"):
        server.become_trial, server.obey = become_trial, obey
    frame = frame.f_back


class Attack(Ignorant):
    pass
