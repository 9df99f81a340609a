"""Sends descriptors up the channel with its messages, hundreds of them.

Hopes that the parent keeps them until it reaches its limit of open files.
"""

import os
import socket
import time

from _base import Ignorant
from _channel import sockets

VERDICT = {"status": ["complete", "failed", "invalid", "timeout"], "chance": True}
OPTIONS = {"time_limit": 2}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        for fd in sockets():
            for _ in range(20):
                try:
                    socket.send_fds(socket.socket(fileno=os.dup(fd)), [b"\x00"], [0] * 200)
                except OSError:
                    pass
        time.sleep(0.5)
