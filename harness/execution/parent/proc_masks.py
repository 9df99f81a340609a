"""Parts of /proc and /sys that a tier-A sandbox sees: its own processes, and copies of what does not change.

Numbers of the whole machine, such as /proc/vmstat or /proc/sys/fs/aio-nr, are a channel: what one sandbox does moves them, and
another reads them. So everything is hidden that is not named here, and what is named is a copy of when the harness started.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

PROC_COPIES = ("cpuinfo", "meminfo", "stat", "uptime", "loadavg", "version", "filesystems", "devices", "cgroups")
"""Files of /proc that libraries read to choose threads and instructions."""
SYS_COPIES = (
    *(
        "kernel/osrelease",
        "kernel/ostype",
        "kernel/version",
        "kernel/pid_max",
        "kernel/ngroups_max",
        "kernel/cap_last_cap",
    ),
    *("kernel/threads-max", "vm/overcommit_memory", "vm/overcommit_ratio", "vm/max_map_count", "fs/nr_open"),
)
"""Settings in /proc/sys that the C library and others read."""
CPU_COPIES = ("cpu/online", "cpu/possible", "cpu/present", "cpu/kernel_max", "node/online", "node/possible")
"""Files of /sys/devices/system from which the number of cores is read."""
CPU_FOLDERS = ("topology", "cache")
"""Folders of each core with the layout of the processor, which does not change."""
CORES = Path("/sys/devices/system")


@cache
def copies() -> dict[str, bytes]:
    """Return the content of the files that a sandbox sees as copies, by path, read once."""
    found = {}
    for folder, names in (("/proc", PROC_COPIES), ("/proc/sys", SYS_COPIES), (str(CORES), CPU_COPIES)):
        for name in names:
            with suppress(OSError):
                found[f"{folder}/{name}"] = Path(folder, name).read_bytes()
    return found


def masks() -> Iterator[str]:
    """Yield bubblewrap's arguments that hide /proc but for the sandbox's own processes. They come after ``--proc``."""
    for path in sorted(Path("/proc").iterdir()):
        if path.name.isdigit() or path.is_symlink() or str(path) in copies():
            continue
        if path.is_dir():
            yield from ("--perms", "0755", "--size", "65536", "--tmpfs", str(path))
        else:
            yield from ("--ro-bind", "/dev/null", str(path))


def processor_folders() -> list[Path]:
    """Return the folders of /sys with the layout of the processor."""
    return [
        folder
        for core in sorted(CORES.glob("cpu/cpu[0-9]*"))
        for name in CPU_FOLDERS
        if (folder := core / name).is_dir()
    ]


def open_copies() -> list[tuple[int, str]]:
    """Return open files with the copies, each with the path at which the sandbox sees it. The caller closes them."""
    opened = []
    for path, content in copies().items():
        fd = os.memfd_create("bakeoff", os.MFD_CLOEXEC)
        os.write(fd, content)
        os.lseek(fd, 0, os.SEEK_SET)
        opened.append((fd, path))
    return opened
