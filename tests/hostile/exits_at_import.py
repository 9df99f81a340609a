"""Ends with exit code 0 while it is imported, and tells the parent before that it is ready.

Hopes that an entry which is ready and has gone confuses the parent.
"""

import os

from _base import Ignorant
from _channel import frame, sockets

VERDICT = {"status": "failed"}

for fd in sockets():
    os.write(fd, frame({"event": "ready", "kinds": ["image-classification"], "space": {}, "defaults": {}}))
os._exit(0)


class Attack(Ignorant):
    pass
