"""Limits on a trial: a thread measures the trial's processes from outside and ends a trial that exceeds a limit.

The kernel's own limits (control groups, resource limits, the size of the sandbox's folders) always hold, but some count one process
only, and some give no reason. `LimitMonitor` measures every `MONITOR_INTERVAL_SECONDS`, adds up all processes and gives the reason.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.contract import Limits
from harness.execution.parent.cgroups import Group
from harness.execution.shared.folders import TooDeep, disk_usage
from harness.execution.shared.processes import process_tree
from leaderboard.result import Status

MONITOR_INTERVAL_SECONDS = 0.1
"""Seconds between two measurements of a `LimitMonitor`."""
PAGE_BYTES, TICKS_PER_SECOND = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
MEBIBYTE = 1 << 20
STANDARD_LIMITS = Limits(processes=512, output=64 * MEBIBYTE, disk=1024 * MEBIBYTE)
"""Limits of a trial where neither the task nor the command sets them. For memory see `default_memory`."""
MEMORY_SHARE = 0.8
"""Fraction of the machine's memory that all trials together may use by default."""


def default_memory(at_once: int) -> int:
    """Return the default memory limit of a trial in bytes: one of ``at_once`` equal parts of `MEMORY_SHARE` of all memory."""
    return int(MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES / at_once)


@dataclass(frozen=True)
class LimitExceeded:
    """Limit that a trial has exceeded: the ``status`` of the trial's row, and the message ``error`` for the user."""

    status: str
    error: str


def format_bytes(count: float) -> str:
    """Return a number of bytes as text for people, with a decimal unit, such as "1.5 MB"."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} GB"


@dataclass
class ProcessUsage:
    """Resources that a process and its descendants use.

    ``memory`` is their current bytes. ``cpu_seconds`` counts from their start. ``processes`` is the current number of their
    threads.
    """

    memory: int = 0
    cpu_seconds: float = 0.0
    processes: int = 0


def tree_usage(pid: int, *, exact_above: int | None, exclude: Collection[int] = ()) -> ProcessUsage:
    """Return the resources that a process and its descendants use, without the processes in ``exclude`` and their descendants.

    Memory is the sum of resident bytes. If the sum is above ``exact_above``, each shared page is divided among its processes
    instead.
    """
    members = process_tree(pid, exclude)
    total = ProcessUsage()
    for member in members:
        try:
            words = Path("/proc", str(member), "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total.memory += int(words[21]) * PAGE_BYTES
        total.cpu_seconds += sum(map(int, words[11:15])) / TICKS_PER_SECOND  # also of its ended children
        total.processes += int(words[17])
    if exact_above is not None and total.memory > exact_above:
        total.memory = sum(map(proportional_memory, members))
    return total


def proportional_memory(pid: int) -> int:
    """Return a process's proportional set size in bytes: shared pages are divided among their processes. 0 for an ended process."""
    with suppress(OSError):
        for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def private_memory(pid: int) -> int:
    """Return the bytes of memory that a process shares with no other; 0 for an ended process."""
    with suppress(OSError):
        lines = Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))
    return 0


def helper_usage(server: int, trials: Collection[int]) -> ProcessUsage:
    """Return what a worker's server and its helpers use: processes below it that belong to no trial, such as an import has left.

    CPU seconds are those of the server and of the helpers that live; ``memory`` is that of the helpers alone, pages of their own.
    """
    members, total = process_tree(server, trials), ProcessUsage()
    for member in members:
        with suppress(OSError):
            words = Path("/proc", str(member), "stat").read_text().rpartition(")")[2].split()
            total.cpu_seconds += sum(map(int, words[11:13])) / TICKS_PER_SECOND
    helpers = members[1:]
    total.processes, total.memory = len(helpers), sum(map(private_memory, helpers))
    return total


def unlinked_usage(pids: Collection[int], folder: Path) -> int:
    """Return the bytes of files on the disk of ``folder`` that have no name any more and that these processes hold open."""
    device, found = folder.stat().st_dev, {}
    for pid in pids:
        with suppress(OSError):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    status = entry.stat()
                    if status.st_nlink == 0 and status.st_dev == device and stat.S_ISREG(status.st_mode):
                        found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())


class LimitMonitor:
    """Thread that measures a process and its descendants, from construction to `stop`, and reports the first exceeded limit.

    It calls ``on_exceeded`` at most once, from its own thread, and then ends. ``group`` is the control group of the processes, if
    they have one; ``scratch`` is the folder on disk that the disk limit counts, if any. ``exclude`` returns the process ids of
    descendants that have monitors of their own. ``helpers`` returns the use of processes that work for these without being
    descendants: it counts as theirs, CPU seconds from now on.
    """

    def __init__(
        self,
        pid: int,
        limits: Limits,
        on_exceeded: Callable[[LimitExceeded], None],
        group: Group | None,
        scratch: Path | None,
        exclude: Callable[[], Collection[int]] = tuple,
        helpers: Callable[[], ProcessUsage] = ProcessUsage,
    ) -> None:
        self.pid, self.limits, self.on_exceeded, self.group, self.scratch = pid, limits, on_exceeded, group, scratch
        self.exclude, self.helpers = exclude, helpers
        self.helpers_before = helpers().cpu_seconds
        self.peak = 0
        self.stopped = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        self.stopped.set()

    def _run(self) -> None:
        while not self.stopped.wait(MONITOR_INTERVAL_SECONDS):
            if exceeded := self.check():
                self.on_exceeded(exceeded)
                return

    def check(self) -> LimitExceeded | None:
        """Measure the processes once. Return an exceeded limit, or None."""
        limits = self.limits
        if self.group and (exceeded := group_exceeded(self.group, limits)):
            return exceeded
        now = tree_usage(self.pid, exact_above=limits.memory, exclude=self.exclude())
        helpers = self.helpers()
        now.cpu_seconds += helpers.cpu_seconds - self.helpers_before
        self.peak = max(self.peak, now.memory + helpers.memory)
        if helpers.memory and limits.memory is not None and now.memory + helpers.memory > limits.memory:
            used = helpers.memory + sum(map(private_memory, process_tree(self.pid, self.exclude())))
            if used > limits.memory:
                return LimitExceeded(
                    Status.OUT_OF_MEMORY,
                    f"used {format_bytes(used)} of memory with its helpers; {advice('memory', format_bytes(limits.memory))}",
                )
        if not self.group and limits.memory is not None and now.memory > limits.memory:
            return LimitExceeded(
                Status.OUT_OF_MEMORY,
                f"used {format_bytes(now.memory)} of memory; {advice('memory', format_bytes(limits.memory))}",
            )
        if limits.cpu_seconds is not None and now.cpu_seconds > limits.cpu_seconds:
            return LimitExceeded(
                Status.CPU_LIMIT, f"computed for {now.cpu_seconds:.4g} s; {advice('cpu', f'{limits.cpu_seconds:g} s')}"
            )
        if not self.group and limits.processes is not None and now.processes >= limits.processes:
            return LimitExceeded(
                Status.PROCESS_LIMIT,
                f"had {now.processes} processes and threads; {advice('process', limits.processes)}",
            )
        if self.scratch and limits.disk is not None:
            return self.check_disk(self.scratch, limits.disk)
        return None

    def check_disk(self, scratch: Path, limit: int) -> LimitExceeded | None:
        """Measure the scratch folder and the files without a name; return an exceeded limit or None."""
        try:
            used = disk_usage(scratch) + unlinked_usage(process_tree(self.pid, self.exclude()), scratch)
        except TooDeep as error:
            return LimitExceeded(Status.DISK_LIMIT, f"{error.strerror}; write fewer of them")
        except OSError:  # the folder is gone: the trial has ended
            return None
        if used <= limit:
            return None
        return LimitExceeded(Status.DISK_LIMIT, f"wrote {format_bytes(used)}; {advice('disk', format_bytes(limit))}")


def group_exceeded(group: Group, limits: Limits) -> LimitExceeded | None:
    """Return the limit that the kernel enforced on a control group, or None."""
    if group.out_of_memory and limits.memory is not None:
        return LimitExceeded(
            Status.OUT_OF_MEMORY,
            f"needed more memory than it may have; {advice('memory', format_bytes(limits.memory))}",
        )
    if group.refused_processes:
        return LimitExceeded(
            Status.PROCESS_LIMIT, f"started too many processes and threads; {advice('process', limits.processes)}"
        )
    return None


def output_exceeded(limits: Limits) -> LimitExceeded:
    """Return the `LimitExceeded` for a trial that has printed more bytes than ``limits.output``."""
    limit = format_bytes(limits.output or 0)
    return LimitExceeded(Status.OUTPUT_LIMIT, f"printed more than {limit}; {advice('output', limit)}")


def advice(limit: str, value: object) -> str:
    """Return the end of an error message: a limit's ``value`` and the command option that raises it, ``--{limit}-limit``."""
    return f"the limit is {value}, --{limit}-limit raises it"
