"""Control groups: the kernel counts and limits a trial's memory and processes, where this process may make groups.

Both versions are supported: 2 has one tree, 1 has a tree for each controller. Where no group can be made, or the controllers are
not enabled, `make` returns None, and `harness.execution.parent.limits` keeps the limits by polling.
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
"""Seconds to wait until a killed group is empty."""

_numbers = itertools.count()


@cache
def parent_groups() -> Mapping[str, Path]:
    """Return the folder in which this process may make groups, for each controller; empty unless all controllers are available."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, _, path = line.split(":", 2)
            if number == "0" and set(CONTROLLERS) <= set(_words(ROOT / "cgroup.controllers")):
                own = ROOT / path.strip("/")
                for group in (own, *own.parents):
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
    """Make a control group, move the process ``pid`` into it, and return the group; None if that fails.

    ``memory`` is the group's limit in bytes, ``processes`` that on processes and threads. None sets no limit.
    """
    if not parent_groups():
        return None
    name = f"bakeoff-{os.getpid()}-{next(_numbers)}"
    try:
        group = Group({controller: parent / name for controller, parent in parent_groups().items()}, memory, processes)
    except OSError:
        return None
    try:
        group.add(pid)
    except OSError:
        group.close()
        return None
    return group


class Group:
    """One control group: the kernel counts and limits memory and processes of its members. Their children belong to it too.

    ``folders`` are the group's new folders by controller; one folder under both names in version 2. Raises OSError if they cannot
    be made.
    """

    def __init__(self, folders: Mapping[str, Path], memory: int | None, processes: int | None) -> None:
        self.folders = folders
        self.memory, self.pids = folders["memory"], folders["pids"]
        self.unified = self.memory == self.pids
        for folder in set(folders.values()):
            folder.mkdir()
        if memory is not None:
            self._set(self.memory, "memory.max" if self.unified else "memory.limit_in_bytes", memory)
            with contextlib.suppress(OSError):  # not every kernel counts swap
                self._set(
                    self.memory, *(("memory.swap.max", 0) if self.unified else ("memory.memsw.limit_in_bytes", memory))
                )
        if processes is not None:
            self._set(self.pids, "pids.max", processes)

    @staticmethod
    def _set(folder: Path, file: str, value: int) -> None:
        (folder / file).write_text(str(value))

    def add(self, pid: int) -> None:
        """Move a process into the group. Memory that it has used before stays counted elsewhere. Raises OSError if it has ended."""
        for folder in set(self.folders.values()):
            (folder / "cgroup.procs").write_text(str(pid))

    @property
    def peak_memory(self) -> int:
        """Peak memory of the group in bytes; 0 if the kernel does not record it."""
        words = _words(self.memory / ("memory.peak" if self.unified else "memory.max_usage_in_bytes"))
        return int(words[0]) if words else 0

    @property
    def out_of_memory(self) -> bool:
        """True if the kernel has killed a process of the group because the group's memory ran out.

        The killed process may be a child of the trial, so the trial's exit code does not tell.
        """
        return self._count(self.memory / ("memory.events" if self.unified else "memory.oom_control"), "oom_kill") > 0

    @property
    def refused_processes(self) -> bool:
        """True if the kernel has refused to start a process or thread in the group because of the group's limit."""
        return self._count(self.pids / "pids.events", "max") > 0

    @staticmethod
    def _count(file: Path, key: str) -> int:
        words = _words(file)
        return int(words[words.index(key) + 1]) if key in words else 0

    def kill(self) -> None:
        """Kill all processes of the group."""
        _kill_members(self.memory)

    def close(self) -> None:
        """Kill the remaining processes of the group and remove the group."""
        for folder in set(self.folders.values()):
            _remove(folder)


def _kill_members(folder: Path) -> None:
    """Kill the processes of a group until it is empty, for at most `EMPTY_LIMIT_SECONDS`.

    One round is not enough: processes may start others meanwhile, and end with a delay.
    """
    deadline = time.monotonic() + EMPTY_LIMIT_SECONDS
    while (members := _words(folder / "cgroup.procs")) and time.monotonic() < deadline:
        for pid in members:
            kill(int(pid))
        time.sleep(0.002)


def _remove(folder: Path) -> None:
    """Kill the processes of a group and remove its folder, with retries for `EMPTY_LIMIT_SECONDS`.

    The kernel may hold a process for a moment after it stops listing it.
    """
    deadline = time.monotonic() + EMPTY_LIMIT_SECONDS
    while folder.exists():
        _kill_members(folder)
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        if time.monotonic() > deadline:
            return
        time.sleep(0.002)


def sweep() -> None:
    """Kill and remove the control groups of harnesses that have ended. A group's name contains the process id of its harness."""
    for parent in set(parent_groups().values()):
        for folder in parent.glob("bakeoff-*-*"):
            owner = folder.name.split("-")[1]
            if owner.isdigit() and not Path("/proc", owner).exists():
                _remove(folder)
