"""Searches its own process: all objects of the garbage collector, the variables of every frame, every open descriptor.

Hopes that the forked process had the hidden labels, or holds a descriptor that leads to them.
"""

import gc
import os
import stat
import sys

import numpy as np

from _base import GotThrough, Ignorant

VERDICT = {"status": "complete", "chance": True}
HIDDEN = 120


class Attack(Ignorant):
    def fit(self, train, valid, report):
        self.look("fit")

    def predict(self, x):
        self.look("predict", x)
        return super().predict(x)

    def look(self, when, *allowed):
        frame, found = sys._getframe(), list(gc.get_objects())
        while frame:
            found += frame.f_locals.values()
            frame = frame.f_back
        for other in sys._current_frames().values():
            found += other.f_locals.values()
        for thing in found:
            if isinstance(thing, np.ndarray) and HIDDEN in thing.shape and not any(thing is one for one in allowed):
                same = any(thing.shape == one.shape and thing.dtype == one.dtype for one in allowed)
                if not same and not (thing.base is not None and thing.size in {one.size for one in allowed}):
                    raise GotThrough(f"{when}: an array {thing.dtype} {thing.shape}")
        for fd in range(3, 256):
            try:
                facts = os.fstat(fd)
            except OSError:
                continue
            if stat.S_ISREG(facts.st_mode) and when == "fit" and facts.st_size == HIDDEN * 8:
                raise GotThrough(f"descriptor {fd} leads to {facts.st_size} bytes")
            if stat.S_ISDIR(facts.st_mode):
                raise GotThrough(f"descriptor {fd} is a folder: {os.listdir(fd)[:5]}")
