"""Replaces the worker's functions in its own process at import: how trials run, how answers are written, the server.

Hopes that the parent trusts results of code that it now controls.
"""

import sys

import numpy as np

import harness.execution.child.server
from _base import Ignorant

VERDICT = {"status": ["complete", "invalid", "failed"], "chance": True}


def claim_everything(submission, channel, message, fds):
    channel.send({"event": "fitted", "seconds": -1, "score": 1.0})
    channel.send({"event": "described", "n_parameters": -5, "summary": "\x1b[2J", "snapshots": 10**9, "score": 1.0})
    while True:
        question, handed = channel.receive()
        answer = np.zeros(question["shape"][0], dtype=np.int64)
        import os

        os.pwrite(handed[1], answer.tobytes(), 0)
        channel.send({"event": "predicted", "form": "labels", "seconds": -1, "score": 1.0})


for module in (
    harness.execution.child.server,
    sys.modules["__main__"],
    sys.modules.get("harness.execution.child.server"),
):
    module.run_trial = claim_everything

frame = sys._getframe()
while frame:
    if "run_trial" in frame.f_globals and "become_trial" in vars(frame.f_globals.get("Server", object)):
        frame.f_globals["run_trial"] = claim_everything
        frame.f_globals["seed_everything"] = lambda seed: None
        frame.f_globals["Server"].reap = lambda self: self.woken.setblocking(False)
    frame = frame.f_back


class Attack(Ignorant):
    pass
