"""Which devices there are, and how many trials run on them at once with how many threads each."""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from harness.contract import UsageError

MOST_CPU_WORKERS = 8


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """The names of the NVIDIA GPUs here, in order, by asking the driver: importing torch to ask would cost seconds."""
    if not shutil.which("nvidia-smi"):
        return []
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    names = [line.strip() for line in listed.stdout.splitlines() if line.strip()]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return names
    # CUDA numbers what it may see from 0; which of the names these are does not matter here.
    return names[: len([one for one in visible.split(",") if one.strip() not in ("", "-1")])]


def torch_has_cuda() -> bool:
    """Whether the torch that is installed is one for GPUs, by its version."""
    try:
        return "+cpu" not in version("torch")
    except PackageNotFoundError:
        return False


@dataclass(frozen=True)
class Slots:
    """One device name for each trial that may run at once, and the threads that each may use. Thread-safe."""

    devices: tuple[str, ...]
    threads: int
    free: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        for device in self.devices:
            self.free.put(device)

    def take(self) -> str:
        """The device of a slot that nothing runs on; waits for one."""
        return self.free.get()

    def give(self, device: str) -> None:
        """Give a slot back."""
        self.free.put(device)

    @property
    def device(self) -> str:
        """What rows record: the device, or all of them where there are several."""
        return ",".join(dict.fromkeys(self.devices))


def plan(devices: str = "auto", workers: int | None = None) -> Slots:
    """Slots for ``--devices`` (auto, cpu, or cuda:0,cuda:1) and ``--workers``. Raises UsageError for a device that is not here."""
    there = gpus()
    if devices == "auto":
        named = [f"cuda:{number}" for number in range(len(there)) if torch_has_cuda()] or ["cpu"]
    else:
        named = [name.strip() for name in devices.split(",")]
        known = ["cpu", *(f"cuda:{number}" for number in range(len(there)))]
        for name in named:
            if not re.fullmatch(r"cpu|cuda:\d+", name) or name not in known:
                raise UsageError(f"device {name!r} is not here; there is {', '.join(known)}")
    if workers is not None and workers < 1:
        raise UsageError(f"--workers should be at least 1; it is {workers}")
    count = workers or (min(cores(), MOST_CPU_WORKERS) if named == ["cpu"] else len(named))
    return Slots(tuple(named[place % len(named)] for place in range(count)), max(1, cores() // count))
