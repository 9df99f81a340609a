"""Energy use of this machine in joules: RAPL counters for CPUs, NVML for NVIDIA GPUs.

Counters include everything else that runs on the machine.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
MAX_GAP_SECONDS = 600.0
"""Longest time in seconds between two readings. In a longer time a counter may wrap unseen."""


class EnergyMeter:
    """Meter of the joules that this machine's CPUs, and with ``gpus`` its GPUs, use after the meter's creation. Not thread-safe.

    A CPU's counter wraps after about 200 kJ, a quarter of an hour under full load. So the result is None when two readings are more
    than `MAX_GAP_SECONDS` apart. ``powercap`` is the folder of the counters, `POWERCAP` by default.
    """

    def __init__(self, *, gpus: bool = False, powercap: Path | None = None) -> None:
        packages = [
            path for path in sorted((powercap or POWERCAP).glob("intel-rapl:*")) if path.name.count(":") == 1
        ]  # AMD CPUs have the same name
        self.last_counts = {path: count for path in packages if (count := read_number(path / "energy_uj")) is not None}
        self.gpus = gpu_counters() if gpus else []
        self.gpus_before = sum(read() for read in self.gpus)
        self.used, self.last_read = 0.0, time.monotonic()

    def joules(self) -> float | None:
        """Return the joules used since the meter's creation; None without counters, or if the last reading is too long ago."""
        known = (self.last_counts or self.gpus) and time.monotonic() - self.last_read <= MAX_GAP_SECONDS
        if not known:
            return None
        self.last_read = time.monotonic()
        for path, before in self.last_counts.items():
            now, end = read_number(path / "energy_uj"), read_number(path / "max_energy_range_uj")
            if now is not None and end is not None:
                self.used += (now - before) % (end + 1) / 1e6
                self.last_counts[path] = now
        return self.used + sum(read() for read in self.gpus) - self.gpus_before


def read_number(path: Path) -> int | None:
    """Return the number in a kernel file, or None if it cannot be read. On most systems only root can read energy counters."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def gpu_counters() -> list[Callable[[], float]]:
    """Return a function for each NVIDIA GPU; empty without NVML. Needs no CUDA context.

    Each function returns the joules that its GPU has used since the driver was loaded.
    """
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    count = ctypes.c_uint()
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return []
    counters: list[Callable[[], float]] = []
    for index in range(count.value):
        handle = ctypes.c_void_p()
        if not nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            counters.append(partial(gpu_joules, nvml, handle))
    return counters


def gpu_joules(nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> float:
    """Return the joules of a GPU since its driver was loaded; 0 if it does not count them. ``handle`` is its handle in ``nvml``."""
    used = ctypes.c_ulonglong()
    return 0.0 if nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(used)) else used.value / 1000
