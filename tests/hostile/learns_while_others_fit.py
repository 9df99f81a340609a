"""Says that it is fitted and computes on in a thread while the other seeds are fitted.

Hopes to learn for longer than its limit on time.
"""

import threading
import time

import numpy as np

from _base import GotThrough, Ignorant

VERDICT = {"status": "complete", "chance": True}
OPTIONS = {"seeds": 3}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        self.learned, self.started = 0.0, time.monotonic()
        threading.Thread(target=self.learn, daemon=True).start()
        time.sleep(0.5)

    def learn(self):
        while True:
            time.sleep(0.05)
            self.learned += 0.05

    def predict(self, x):
        if len(x) == 120 and self.seed == 1 and self.learned > 0.9:
            raise GotThrough(f"learned for {self.learned:.2f} s")
        return np.zeros(len(x), dtype=np.int64)
