"""Control groups, where this process may make them: the kernel then counts and limits a trial's memory and processes.

Both layouts are known: version 2, one tree, and version 1, a tree for each controller. Where no group can be made, or its
controllers are not switched on, `make` returns None, and the limits are kept by polling (see `harness.execution.parent.limits`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from harness.execution.shared.processes import kill

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("memory", "pids")
EMPTY_LIMIT_SECONDS = 2.0
"""Seconds in which a killed group should have become empty."""

_numbers = itertools.count()


@cache
def parent_groups() -> Mapping[str, Path]:
    """For each controller the group to make new ones in; empty unless all of them can be had."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, _, path = line.split(":", 2)
            if number == "0" and set(CONTROLLERS) <= set(_words(ROOT / "cgroup.controllers")):
                place = ROOT / path.strip("/")
                for group in (place, *place.parents):
                    if not group.is_relative_to(ROOT):
                        break
                    if set(CONTROLLERS) <= set(_words(group / "cgroup.subtree_control")) and _can_make(group):
                        return dict.fromkeys(CONTROLLERS, group)
    found = {}
    for controller in CONTROLLERS:
        if (ROOT / controller / "cgroup.procs").exists() and _can_make(ROOT / controller):
            found[controller] = ROOT / controller
    return found if len(found) == len(CONTROLLERS) else {}


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _can_make(group: Path) -> bool:
    attempt = group / f"bakeoff-{os.getpid()}-try"
    try:
        attempt.mkdir()
        attempt.rmdir()
    except OSError:
        return False
    return True


def make(memory: int | None, processes: int | None, pid: int) -> Group | None:
    """A new group with these limits and a process in it, or None where groups are not to be had or the process has gone."""
    if not parent_groups():
        return None
    name = f"bakeoff-{os.getpid()}-{next(_numbers)}"
    try:
        group = Group({controller: place / name for controller, place in parent_groups().items()}, memory, processes)
    except OSError:
        return None
    try:
        group.add(pid)
    except OSError:
        group.close()
        return None
    return group


class Group:
    """One group. Processes are moved in by number, and whatever they start then belongs to it."""

    def __init__(self, places: Mapping[str, Path], memory: int | None, processes: int | None) -> None:
        self.folders = places
        self.memory, self.pids = places["memory"], places["pids"]
        self.unified = self.memory == self.pids
        for place in set(places.values()):
            place.mkdir()
        if memory is not None:
            self._set(self.memory, "memory.max" if self.unified else "memory.limit_in_bytes", memory)
            with contextlib.suppress(OSError):  # swap is not counted everywhere
                self._set(
                    self.memory, *(("memory.swap.max", 0) if self.unified else ("memory.memsw.limit_in_bytes", memory))
                )
        if processes is not None:
            self._set(self.pids, "pids.max", processes)

    @staticmethod
    def _set(place: Path, file: str, value: int) -> None:
        (place / file).write_text(str(value))

    def add(self, pid: int) -> None:
        """Move a process in. What it has already stays counted where it was. Raises OSError where it has gone."""
        for place in set(self.folders.values()):
            (place / "cgroup.procs").write_text(str(pid))

    @property
    def peak_memory(self) -> int:
        """The most bytes that were in use at once."""
        words = _words(self.memory / ("memory.peak" if self.unified else "memory.max_usage_in_bytes"))
        return int(words[0]) if words else 0

    @property
    def out_of_memory(self) -> bool:
        """Whether the kernel has killed a process of this group for its memory. An exit code may not tell: it may be a child's."""
        return self._count(self.memory / ("memory.events" if self.unified else "memory.oom_control"), "oom_kill") > 0

    @property
    def refused_processes(self) -> bool:
        """Whether a process or thread more than allowed was asked for."""
        return self._count(self.pids / "pids.events", "max") > 0

    @staticmethod
    def _count(file: Path, key: str) -> int:
        words = _words(file)
        return int(words[words.index(key) + 1]) if key in words else 0

    def kill(self) -> None:
        """Kill every process of the group."""
        _kill_members(self.memory)

    def close(self) -> None:
        """Kill what is left and remove the group."""
        for place in set(self.folders.values()):
            _remove(place)


def _kill_members(place: Path) -> None:
    """Kill what is in a group until there is nothing: one may start another while it is being killed, and takes its time to go."""
    deadline = time.monotonic() + EMPTY_LIMIT_SECONDS
    while (members := _words(place / "cgroup.procs")) and time.monotonic() < deadline:
        for pid in members:
            kill(int(pid))
        time.sleep(0.002)


def _remove(place: Path) -> None:
    """Empty a group and remove it. The kernel may take a moment longer to let go of the last process than to stop listing it."""
    deadline = time.monotonic() + EMPTY_LIMIT_SECONDS
    while place.exists():
        _kill_members(place)
        with contextlib.suppress(OSError):
            place.rmdir()
            return
        if time.monotonic() > deadline:
            return
        time.sleep(0.002)


def sweep() -> None:
    """Kill and remove the groups of harnesses that have gone. A group's name holds its maker's process number."""
    for place in set(parent_groups().values()):
        for folder in place.glob("bakeoff-*-*"):
            owner = folder.name.split("-")[1]
            if owner.isdigit() and not Path("/proc", owner).exists():
                _remove(folder)
