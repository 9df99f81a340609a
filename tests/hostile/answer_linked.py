"""Puts a link to a file with the labels in place of its answer.

Hopes that the parent opens the answer by its name, or follows the descriptor that it gave away.
"""

import os

from _base import TARGET, Ignorant
from _channel import memory_files

VERDICT = {"status": ["invalid", "failed"]}


class Attack(Ignorant):
    def predict(self, x):
        for name in ("answer", "predictions", "predictions.npy", "answer.npy"):
            os.symlink(TARGET["secret"], name)
        link = os.open("answer", os.O_PATH | os.O_NOFOLLOW)
        for fd in memory_files():
            os.dup2(link, fd)
        return super().predict(x)
