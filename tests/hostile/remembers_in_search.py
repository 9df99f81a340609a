"""Leaves traces in each fit of the search and looks for them in the final fits: files, variables, shared memory, sockets.

Hopes to continue training from fit to fit, so that the last fits seem fast. (Trials of one search share a sandbox, so they may.)
"""

import errno
import multiprocessing.shared_memory
import os
import socket
import tempfile
from pathlib import Path

import numpy as np

from _base import GotThrough, Ignorant
from harness import Float

VERDICT = {"status": "complete", "chance": True}
OPTIONS = {"trials": 3}
TIERS = {"process": "not promised: it writes where you can"}
FOLDERS = (
    "/tmp",
    "/dev/shm",
    "/var/tmp",
    os.path.expanduser("~"),
    tempfile.gettempdir(),
    os.getcwd(),
    os.path.dirname(__file__),
)


class Attack(Ignorant):
    space = {"a": Float(0, 1)}

    def fit(self, train, valid, report):
        found = list(self.leave())
        if found and self.seed:  # the fits of the search have seed 0
            raise GotThrough(f"finds {found}")

    def leave(self):
        for folder in {*FOLDERS, os.getcwd()}:
            left = Path(folder, "left-behind")
            if left.exists():
                yield left
            try:
                left.write_text("weights")
            except OSError:
                pass
        if "LEFT_BEHIND" in os.environ or hasattr(np, "left_behind"):
            yield "its variable"
        os.environ["LEFT_BEHIND"] = np.left_behind = "weights"
        try:
            shared = multiprocessing.shared_memory.SharedMemory("left-shared", create=True, size=4096)
            multiprocessing.resource_tracker.unregister(shared._name, "shared_memory")
        except FileExistsError:
            yield "its shared memory"
        except OSError:
            pass
        try:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind("\0left-behind")
            listener.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                yield "its socket"
