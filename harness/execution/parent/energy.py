"""The energy that this machine has used, where it has a meter: RAPL for processors, NVML for NVIDIA GPUs.

Meters count for the whole machine, whatever else it does meanwhile.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
MAX_GAP_SECONDS = 600.0
"""Seconds after which a counter may have started anew unseen."""


class EnergyMeter:
    """Counts from its making on; with ``gpus`` also what they use. Not thread-safe.

    A processor's counter starts anew after some 200 kJ, which may be a quarter of an hour under full load: of more than `LONGEST`
    between two looks nothing is said.
    """

    def __init__(self, *, gpus: bool = False, powercap: Path | None = None) -> None:
        packages = [
            path for path in sorted((powercap or POWERCAP).glob("intel-rapl:*")) if path.name.count(":") == 1
        ]  # AMD's have the name too
        self.last_counts = {path: found for path in packages if (found := read_number(path / "energy_uj")) is not None}
        self.gpus = gpu_counters() if gpus else []
        self.gpus_before = sum(read() for read in self.gpus)
        self.used, self.last_read = 0.0, time.monotonic()

    def joules(self) -> float | None:
        """Since it was made, processors and GPUs together; None where that is not known."""
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
    """What a file of the kernel's says, None where it may not be read: most systems let root alone."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def gpu_counters() -> list[Callable[[], float]]:
    """For each NVIDIA GPU what tells the joules that it has used since its driver was loaded. Starts nothing on it."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    count = ctypes.c_uint()
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return []
    found: list[Callable[[], float]] = []
    for place in range(count.value):
        handle = ctypes.c_void_p()
        if not nvml.nvmlDeviceGetHandleByIndex_v2(place, ctypes.byref(handle)):
            found.append(partial(gpu_joules, nvml, handle))
    return found


def gpu_joules(nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> float:
    used = ctypes.c_ulonglong()
    return 0.0 if nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(used)) else used.value / 1000
