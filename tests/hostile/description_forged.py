"""Describes itself with values of the wrong types, in messages that a server never sends.

Hopes for an error in the parent.
"""

import os
import time

from _base import Ignorant
from _channel import frame, sockets

VERDICT = {"status": "failed", "error": "cannot be read"}

for fd in sockets():
    message = {
        "event": "ready",
        "kinds": [["image-classification"], 5],
        "space": {"a": '{"name": "os.system"}'},
        "defaults": [1],
    }
    os.write(fd, frame(message))
time.sleep(100)


class Attack(Ignorant):
    pass
