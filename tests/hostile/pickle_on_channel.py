"""Sends pickles up the channel, framed as messages are, that write a file and mark the process when they are read.

Hopes that the parent unpickles what it receives.
"""

import os
import pickle
import time

from _base import TOLD, Ignorant
from _channel import frame, sockets

VERDICT = {"status": ["failed", "invalid"]}


class Payload:
    def __reduce__(self):
        return exec, (f"import os; os.environ['BAKEOFF_UNPICKLED'] = '1'; open({TOLD['canary']!r}, 'w').close()",)


class Attack(Ignorant):
    def fit(self, train, valid, report):
        for fd in sockets():
            try:
                os.write(fd, frame(pickle.dumps(Payload())))
            except OSError:
                pass
        time.sleep(0.5)
