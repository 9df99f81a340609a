"""Which devices there are, and how many trials run on them at once with how many threads each."""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from harness.errors import UsageError

MAX_CPU_WORKERS = 8
MAX_TRIALS_PER_GPU = 4
"""Trials that share a GPU at most, where nobody says otherwise."""
USABLE_GPU_SHARE = 0.9
"""The share of a GPU's memory that trials are let have."""
GPU_CONTEXT_BYTES = 600 << 20
"""Bytes of a GPU that a process takes before it has computed anything."""


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """The names of the NVIDIA GPUs here, in order."""
    return query_gpus("name")


def gpu_memory() -> list[int]:
    """The memory of each of these GPUs, in bytes."""
    return [int(found) << 20 for found in query_gpus("memory.total") if found.isdigit()]


def query_gpus(field: str) -> list[str]:
    """What the driver says of each GPU: importing torch to ask would cost seconds."""
    if not shutil.which("nvidia-smi"):
        return []
    try:
        listed = subprocess.run(
            ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    said = [line.strip() for line in listed.stdout.splitlines() if line.strip()]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return said
    # CUDA numbers what it may see from 0; which of them these are does not matter here.
    return said[: len([one for one in visible.split(",") if one.strip() not in ("", "-1")])]


def torch_has_cuda() -> bool:
    """Whether the torch that is installed is one for GPUs, by its version."""
    try:
        return "+cpu" not in version("torch")
    except PackageNotFoundError:
        return False


class Slots:
    """One device name for each trial that may run at once, and the threads that each may use. Thread-safe.

    On a GPU of known ``memory``, in bytes, up to ``most`` trials run at once, as many as one of the size of the largest so far
    leaves room for: one, until the first has been measured.
    """

    def __init__(
        self, devices: Sequence[str], threads: int, memory: Mapping[str, int] | None = None, max_per_device: int = 1
    ) -> None:
        self.devices, self.threads, self.memory, self.max_per_device = (
            tuple(devices),
            threads,
            memory or {},
            max_per_device,
        )
        self.free: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.existing = Counter(self.devices)
        self.allowed = Counter(self.devices)
        self.cap = dict.fromkeys(self.memory, max_per_device)
        self.largest: Counter[str] = Counter()
        for device in self.devices:
            self.free.put(device)

    @property
    def device(self) -> str:
        """What rows record: the device, or all of them where there are several."""
        return ",".join(dict.fromkeys(self.devices))

    @property
    def at_once(self) -> int:
        """The most trials that there can be at once."""
        return len(self.devices) * self.max_per_device

    def acquire(self) -> str:
        """The device of a slot that nothing runs on; waits for one."""
        return self.free.get()

    def release(self, device: str) -> None:
        """Give a slot back."""
        with self.lock:
            if self.existing[device] > self.allowed[device]:
                self.existing[device] -= 1
            else:
                self.free.put(device)

    def record_memory(self, device: str, used: int | None) -> None:
        """A trial on a device has used so many bytes of its memory: others of the size may run beside it."""
        if not used or device not in self.memory:
            return
        with self.lock:
            self.largest[device] = max(self.largest[device], used)
            fit = int(self.memory[device] * USABLE_GPU_SHARE // (self.largest[device] + GPU_CONTEXT_BYTES))
            self.allowed[device] = max(min(fit, self.cap[device]), 1)
            while self.existing[device] < self.allowed[device]:
                self.existing[device] += 1
                self.free.put(device)

    def shrink(self, device: str) -> bool:
        """A trial ran out of memory: whether it may have shared its GPU. Then half as many may from now on."""
        with self.lock:
            if device == "cpu" or self.allowed[device] < 2:
                return False
            self.allowed[device] = self.cap[device] = self.allowed[device] // 2
            for _ in range(self.free.qsize()):
                with suppress(queue.Empty):
                    waiting = self.free.get_nowait()
                    if self.existing[waiting] > self.allowed[waiting]:
                        self.existing[waiting] -= 1
                    else:
                        self.free.put(waiting)
            return True


def plan(devices: str = "auto", workers: int | None = None) -> Slots:
    """Slots for ``--devices`` (auto, cpu, or cuda:0,cuda:1) and ``--workers``. Raises UsageError for a device that is not here.

    Where nobody says how many, trials share a GPU as its memory allows.
    """
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
    count = workers or (min(cores(), MAX_CPU_WORKERS) if named == ["cpu"] else len(named))
    devices_of = [named[place % len(named)] for place in range(count)]
    if workers or "cpu" in named:
        return Slots(devices_of, max(1, cores() // count))
    memory = {name: size for number, size in enumerate(gpu_memory()) if (name := f"cuda:{number}") in named}
    return Slots(devices_of, max(1, cores() // (count * MAX_TRIALS_PER_GPU)), memory, MAX_TRIALS_PER_GPU)
