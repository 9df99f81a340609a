"""Shared parts of the benchmarks: sides that take turns, each in a process of its own, and ratios with their range."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import Submission, seeding
from harness.contract import Data, Task
from harness.execution.parent import slots
from harness.plugins.loader import load_submission

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "KERAS_BACKEND": "torch"}
"""Environment of every side: one thread a process, so that no side has an advantage."""


def machine() -> str:
    """Describe the machine in one line: cores, processor, memory, GPUs, system, Python."""
    name = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        name = names[0] if names else name
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    gpus = ", ".join(slots.gpus()) or "no GPU"
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{slots.cores()} cores ({name}), {memory:.0f} GiB, {gpus}, {system}"


def one(file: str, side: str, *arguments: str, label: str = "") -> dict[str, Any]:
    """Run one side once: ``python FILE --side SIDE ARGUMENTS`` prints one JSON object on its last line.

    The result adds ``seconds``, the time of the whole command, imports included.
    """
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, file, "--side", side, *arguments],
        env={**os.environ, **ONE_THREAD},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        print(f"{side}: exit {done.returncode}\n{done.stderr[-2000:]}", file=sys.stderr)
        raise SystemExit(1)
    print(f"  {label}{side}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return {"seconds": seconds, **json.loads(done.stdout.strip().splitlines()[-1])}


def take_turns(file: str, sides: Sequence[str], rounds: int, *arguments: str) -> dict[str, list[dict[str, Any]]]:
    """Run each side ``rounds`` times, in turns; return the results of `one` by side."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in sides:
            found[side].append(one(file, side, *arguments, label=f"round {number + 1}, "))
    return found


def median(values: Sequence[float]) -> str:
    """Format the median and the range: ``4.2 (4.0–4.9)``."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}–{max(values):.3g})"


def ratios(slow: Sequence[Mapping[str, Any]], fast: Sequence[Mapping[str, Any]]) -> list[float]:
    """Seconds of the first side over those of the second, round by round."""
    return [a["seconds"] / b["seconds"] for a, b in zip(slow, fast, strict=True)]


def prepared(path: str, task: Task, device: str = "cpu") -> tuple[type[Submission], Data, Callable[..., Submission]]:
    """Class of a plug-in, data of a task and a maker of seeded models, so that a peer trains the same model on the same data."""
    from types import SimpleNamespace

    submission, data = load_submission(Path(path)), task.load()

    def make(params: Mapping[str, Any], seed: int = 0) -> Submission:
        seeding.seed_everything(seed)
        model = submission(params, seed=seed, device=device)
        model.task_kind = SimpleNamespace(name=task.kind.name, **task.kind.settings())
        return model

    return submission, data, make
