"""Which processes descend from which, and how to end them all. Works alike in the parent and in the child."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import psutil

CHILDREN_LISTED = Path("/proc/self/task", str(os.getpid()), "children").exists()
"""Whether the kernel lists a process's children. To look for them among all processes takes ten milliseconds and more."""


def children(pid: int) -> list[int]:
    """The processes that a process has started and that still are, ended ones that nobody has waited for included."""
    if not CHILDREN_LISTED:
        try:
            return [child.pid for child in psutil.Process(pid).children()]
        except psutil.Error:
            return []
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208, quick: the watch calls this many times a second
            with suppress(OSError, ValueError):
                found += [int(word) for word in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    return found


def process_tree(pid: int, exclude: Collection[int] = ()) -> list[int]:
    """A process and its descendants, those ``without`` and theirs left out."""
    found = [pid]
    for member in found:  # grows while it is read
        found += [child for child in children(member) if child not in exclude]
    return found


def kill(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def kill_tree(pid: int) -> None:
    """Kill a process, its process group where it leads one, and its descendants."""
    leads = False
    with suppress(ProcessLookupError, PermissionError):
        leads = os.getpgid(pid) == pid
        if leads:
            os.killpg(pid, signal.SIGSTOP)  # what forks as fast as it can is never listed to its end
    family = process_tree(pid)
    with suppress(ProcessLookupError, PermissionError):
        if leads:
            os.killpg(pid, signal.SIGKILL)
    for member in family:
        kill(member)


def count_user_processes() -> int:
    """How many processes and threads this user has, as the kernel's limit on them counts."""
    count = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real == os.getuid():
                count += process.num_threads()
    return count
