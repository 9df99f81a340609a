"""Slots for concurrent trials: the devices of this machine, and the trials and threads on each."""

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
"""Largest number of trials that share a GPU, unless ``--workers`` sets another."""
USABLE_GPU_SHARE = 0.9
"""Fraction of a GPU's memory that trials may use."""
GPU_CONTEXT_BYTES = 600 << 20
"""Bytes of GPU memory that a process takes before its first computation."""


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """Return the model name of each visible NVIDIA GPU; empty if there is none."""
    return query_gpus("name")


def gpu_memory() -> list[int]:
    """Return the memory of each visible NVIDIA GPU in bytes."""
    return [int(mebibytes) << 20 for mebibytes in query_gpus("memory.total") if mebibytes.isdigit()]


def query_gpus(field: str) -> list[str]:
    """Return a field that ``nvidia-smi`` reports, such as "name", for each visible GPU; empty without ``nvidia-smi``.

    CUDA_VISIBLE_DEVICES sets how many GPUs are reported, not which: they are the first ones. Importing torch instead would take
    seconds.
    """
    if not shutil.which("nvidia-smi"):
        return []
    try:
        answer = subprocess.run(
            ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    values = [line.strip() for line in answer.stdout.splitlines() if line.strip()]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return values
    # CUDA numbers the visible GPUs from 0; only their number matters here.
    return values[: len([item for item in visible.split(",") if item.strip() not in ("", "-1")])]


def torch_has_cuda() -> bool:
    """Return whether the installed torch supports GPUs, judged by its version string; False without torch."""
    try:
        return "+cpu" not in version("torch")
    except PackageNotFoundError:
        return False


class Slots:
    """Pool of slots. A slot lets one trial at a time run on a device (cpu, cuda:0, ...) with ``threads`` CPU threads. Thread-safe.

    ``devices`` has a name for each slot at the start. On a GPU with known ``memory`` (bytes by device), one trial runs until its
    memory is measured. Then as many run at once as would fit if each needed as much as the largest so far, at most
    ``max_per_device``.
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
        """Names of the devices, joined by commas, as rows of a board record them."""
        return ",".join(dict.fromkeys(self.devices))

    @property
    def at_once(self) -> int:
        """Largest number of concurrent trials on all devices."""
        return len(self.devices) * self.max_per_device

    def acquire(self) -> str:
        """Wait for a free slot and return its device."""
        return self.free.get()

    def release(self, device: str) -> None:
        """Give the slot of an ended trial on ``device`` back to the pool, or remove the slot if the device has too many."""
        with self.lock:
            if self.existing[device] > self.allowed[device]:
                self.existing[device] -= 1
            else:
                self.free.put(device)

    def record_memory(self, device: str, used: int | None) -> None:
        """Record the GPU memory in bytes that a trial used on ``device``, and adapt the number of slots there to what fits.

        Does nothing if the bytes are unknown, or the device is not a GPU of known memory.
        """
        if not used or device not in self.memory:
            return
        with self.lock:
            self.largest[device] = max(self.largest[device], used)
            n_fitting = int(self.memory[device] * USABLE_GPU_SHARE // (self.largest[device] + GPU_CONTEXT_BYTES))
            self.allowed[device] = max(min(n_fitting, self.cap[device]), 1)
            while self.existing[device] < self.allowed[device]:
                self.existing[device] += 1
                self.free.put(device)

    def shrink(self, device: str) -> bool:
        """Halve the number of slots on a GPU, after a trial there ran out of memory, and return True.

        Return False, without a change, if the GPU has only one slot or the device is the CPU.
        """
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
    """Return the slots for the command options ``--devices`` (auto, cpu, or a list such as cuda:0,cuda:1) and ``--workers``.

    Raises UsageError for an absent device or fewer than one worker. If ``workers`` is None and all devices are GPUs, several trials
    share a GPU as its memory allows.
    """
    names = gpus()
    if devices == "auto":
        chosen = [f"cuda:{number}" for number in range(len(names)) if torch_has_cuda()] or ["cpu"]
    else:
        chosen = [name.strip() for name in devices.split(",")]
        known = ["cpu", *(f"cuda:{number}" for number in range(len(names)))]
        for name in chosen:
            if not re.fullmatch(r"cpu|cuda:\d+", name) or name not in known:
                raise UsageError(f"device {name!r} is not here; there is {', '.join(known)}")
    if workers is not None and workers < 1:
        raise UsageError(f"--workers should be at least 1; it is {workers}")
    count = workers or (min(cores(), MAX_CPU_WORKERS) if chosen == ["cpu"] else len(chosen))
    devices_of = [chosen[index % len(chosen)] for index in range(count)]
    if workers or "cpu" in chosen:
        return Slots(devices_of, max(1, cores() // count))
    memory = {name: size for number, size in enumerate(gpu_memory()) if (name := f"cuda:{number}") in chosen}
    return Slots(devices_of, max(1, cores() // (count * MAX_TRIALS_PER_GPU)), memory, MAX_TRIALS_PER_GPU)
