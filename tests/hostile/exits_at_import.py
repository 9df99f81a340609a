"""Exits with code 0 at import, after it has told the parent that it is ready.

Hopes to confuse the parent with an entry that is ready and gone.
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
