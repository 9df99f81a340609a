"""Keeps the test inputs of one seed for the fit of another seed, by every channel of the lookahead attacks, and in the state of
descriptors that both receive.

Hopes to fit on test inputs, which are secret until predict.
"""

import os
import time

import lookahead_abstract
import lookahead_files
import lookahead_globals
import lookahead_locks
import lookahead_mapping
import lookahead_queue
import lookahead_sysv
import lookahead_xattr
from _base import GotThrough, Ignorant
from _channel import memory_files

VERDICT = {"status": "complete", "chance": True}
OPTIONS = {"seeds": 3, "workers": 2}
TIERS = {"process": "not promised: its processes can meet"}
WAYS = (
    lookahead_abstract,
    lookahead_files,
    lookahead_globals,
    lookahead_locks,
    lookahead_mapping,
    lookahead_queue,
    lookahead_sysv,
    lookahead_xattr,
)
PLACE, FLAG = 7_654_321, os.O_APPEND


class Attack(Ignorant):
    def fit(self, train, valid, report):
        time.sleep(0.2)
        for way in WAYS:
            if content := way.kept():
                raise GotThrough(f"knows {len(content)} bytes of another seed's question by {way.__name__}")
        for fd in memory_files():
            if os.lseek(fd, 0, os.SEEK_CUR) == PLACE:
                raise GotThrough("knows where another seed left a descriptor")

    def predict(self, x):
        if len(x) == 120:
            for fd in memory_files():
                os.lseek(fd, PLACE, os.SEEK_SET)
            for way in WAYS:
                way.keep(x.tobytes())
        return super().predict(x)
