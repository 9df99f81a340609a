"""Sends pickles up the channel, framed like messages. Each writes a file and marks the process that reads it.

Hopes that the parent unpickles what it receives.
"""

import os
import pickle
import time

from _base import TARGET, Ignorant
from _channel import frame, sockets

VERDICT = {"status": ["failed", "invalid"]}


class Payload:
    def __reduce__(self):
        return exec, (f"import os; os.environ['BAKEOFF_UNPICKLED'] = '1'; open({TARGET['canary']!r}, 'w').close()",)


class Attack(Ignorant):
    def fit(self, train, valid, report):
        for fd in sockets():
            try:
                os.write(fd, frame(pickle.dumps(Payload())))
            except OSError:
                pass
        time.sleep(0.5)
