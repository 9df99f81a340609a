"""Never ends, and ignores every signal that can be ignored.

Hopes that only signals which it can ignore are sent.
"""

import signal

from _base import Ignorant

VERDICT = {"status": "timeout", "error": "took more than"}
OPTIONS = {"time_limit": 2}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        while True:
            pass
