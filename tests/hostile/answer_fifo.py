"""Puts a FIFO in place of its answer and reports that it has answered.

Hopes that the parent waits at it forever.
"""

import os
import sys

from _base import Ignorant
from _channel import memory_files

VERDICT = {"status": "invalid"}


class Attack(Ignorant):
    def predict(self, x):
        try:
            os.mkfifo("answer")
            pipe = os.open("answer", os.O_RDWR | os.O_NONBLOCK)
        except OSError:  # the sandbox allows none; a pipe without a name does as well
            pipe = os.pipe()[0]
        for fd in memory_files():
            os.dup2(pipe, fd)
        sys._getframe(1).f_globals["write_answer"] = lambda answer, forms, fd: "labels"
        return super().predict(x)
