"""Run the command and kill it with SIGKILL before or after the n-th call of a named step: ``python killer.py PLAN ARGUMENTS...``.

PLAN is JSON: ``step``, ``when`` ("before" or "after"), ``hit`` (from 1), and ``diary``, a file. The diary gets a line for each
acknowledged row, and the process ids of all children before the kill. Without ``step`` nothing is killed.
"""

import functools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import psutil

from harness import cli, scoring
from harness.execution.parent import trial, workers
from harness.search import sampler
from leaderboard.store import store

STEPS: dict[str, list[tuple[Any, str]]] = {
    "spawn": [(workers.Worker, "trial")],
    "read": [(trial.Trial, "predict")],
    "score": [(scoring.ValidationScorer, "valid"), (scoring.Scorer, "test")],
    "commit": [(store.Store, "add_fit"), (store.Store, "add")],
    "tell": [(sampler.Sampler, "tell")],
}


def record(diary: int, **entry: Any) -> None:
    os.write(diary, (json.dumps(entry) + "\n").encode())


def die(diary: int) -> None:
    children = psutil.Process().children(recursive=True)
    record(diary, children=[(child.pid, child.create_time()) for child in children])
    os.kill(os.getpid(), signal.SIGKILL)


def acknowledging(diary: int, add: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a recording method: write a row to the diary once the call has returned."""

    @functools.wraps(add)
    def wrapper(self: store.Store, row: Any, *more: Any) -> Any:
        stored = add(self, row, *more)
        if isinstance(row, store.Fit):
            record(diary, fit=[row.study, row.phase, row.number, json.dumps(row.params, sort_keys=True), row.attempt])
        else:
            record(diary, result=row.result_id)
        return stored

    return wrapper


def main(plan: dict[str, Any], arguments: list[str]) -> int:
    diary = os.open(plan["diary"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for add in ("add_fit", "add"):
        setattr(store.Store, add, acknowledging(diary, getattr(store.Store, add)))
    hits, lock = 0, threading.Lock()

    def counting(step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(step)
        def wrapper(*args: Any, **named: Any) -> Any:
            nonlocal hits
            with lock:
                hits += 1
                now = hits == plan["hit"]
            if now and plan["when"] == "before":
                die(diary)
            answer = step(*args, **named)
            if now:
                die(diary)
            return answer

        return wrapper

    for owner, name in STEPS.get(plan.get("step", ""), []):
        setattr(owner, name, counting(getattr(owner, name)))
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), sys.argv[2:]))
