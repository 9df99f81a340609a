"""Process trees: find the descendants of a process, and kill them all. Used by parent and child."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import psutil

CHILDREN_LISTED = Path("/proc/self/task", str(os.getpid()), "children").exists()
"""True if the kernel lists the children of each process under /proc. Otherwise `children` searches all processes, for ten
milliseconds or more."""


def children(pid: int) -> list[int]:
    """Return the process ids of a process's children, ended ones included that nobody has reaped; empty if the process is gone."""
    if not CHILDREN_LISTED:
        try:
            return [child.pid for child in psutil.Process(pid).children()]
        except psutil.Error:
            return []
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208, quick: the monitor calls this many times a second
            with suppress(OSError, ValueError):
                found += [int(word) for word in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    return found


def process_tree(pid: int, exclude: Collection[int] = ()) -> list[int]:
    """Return the ids of a process (first) and its descendants, without the processes in ``exclude`` and their descendants."""
    members = [pid]
    for member in members:  # the list grows during the loop
        members += [child for child in children(member) if child not in exclude]
    return members


def stop_tree(pid: int) -> None:
    """Stop a process and all its descendants until `continue_tree`; those that start meanwhile, too."""
    for _ in range(1000):
        running = [member for member in process_tree(pid) if not stands_still(member)]
        if not running:
            return
        for member in running:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(member, signal.SIGSTOP)
        time.sleep(0.001)


def continue_tree(pid: int) -> None:
    """Let the processes run on that `stop_tree` has stopped."""
    for member in process_tree(pid):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(member, signal.SIGCONT)


def stands_still(pid: int) -> bool:
    """Tell if a process is stopped, or has ended."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return True


def kill(pid: int) -> None:
    """Send SIGKILL to a process. Does nothing if the process has ended or may not be killed."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def kill_tree(pid: int) -> None:
    """Kill a process, its descendants, and its process group if it leads one."""
    leads = False
    with suppress(ProcessLookupError, PermissionError):
        leads = os.getpgid(pid) == pid
        if leads:
            os.killpg(pid, signal.SIGSTOP)  # a fork bomb grows faster than it can be listed
    members = process_tree(pid)
    with suppress(ProcessLookupError, PermissionError):
        if leads:
            os.killpg(pid, signal.SIGKILL)
    for member in members:
        kill(member)


def count_user_processes() -> int:
    """Return the number of threads of this user, summed over all processes, as RLIMIT_NPROC counts them."""
    count = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real == os.getuid():
                count += process.num_threads()
    return count
