"""Isolation probe: attacks from inside a sandbox on the canaries that the parent sets up.

``python -m harness.execution.child.probe TARGETS`` prints a JSON object {attempt: open or closed}. Only the standard library is
imported. Each attempt is real (it connects, it opens a file), because a kernel's version does not tell what it refuses.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.execution.shared.probe_answers import CLOSED, OPEN

SYSTEM_CALLS = {
    # generic numbers of 64-bit Linux: those above 423 are the same on every architecture
    "io_uring": {"x86_64": 425, "aarch64": 425},
    "keyring": {"x86_64": 248, "aarch64": 217},
    "bpf": {"x86_64": 321, "aarch64": 280},
    "unshare": {"x86_64": 272, "aarch64": 97},
    "ptrace": {"x86_64": 101, "aarch64": 117},
}
CLONE_NEWUSER = 0x10000000
ARRAY_MAP = struct.pack("4I", 2, 4, 4, 1)
"""Attributes of a minimal BPF map, an array of one number, which every kernel makes for permitted callers."""
PTRACE_SEIZE = 0x4206
"""ptrace request that attaches without stopping the target. The attachment ends with the probe."""


def main() -> None:
    targets = json.loads(sys.argv[1])
    print(json.dumps(probe(targets)))


def probe(targets: Mapping[str, Any]) -> dict[str, str]:
    """Attempt each attack on ``targets`` (see `Canary`), and return "open" or "closed" by attempt.

    An attempt that raises OSError is closed, one that succeeds is open.
    """
    parent, folder = int(targets["parent"]), Path(targets["folder"])
    attempts: dict[str, Callable[[], object]] = {
        "read a file": (folder / "labels").read_text,
        "write a file": lambda: (folder / "written").write_text("here"),
        "change a file's rights": lambda: change_rights(folder / "labels"),
        "parent's memory": lambda: os.close(os.open(f"/proc/{parent}/mem", os.O_RDONLY)),
        "parent's environment": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "signal the parent": lambda: os.kill(parent, 0) if parent != os.getpid() else refuse(),
        "trace the parent": lambda: call("ptrace", PTRACE_SEIZE, parent, 0, 0),
        "process list": lambda: refuse() if not other_processes() else None,
        "tcp": lambda: socket.create_connection(("127.0.0.1", targets["tcp"]), timeout=2),
        "udp": lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", targets["udp"])),
        "vsock": lambda: socket.socket(socket.AF_VSOCK),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "abstract socket": lambda: socket.socket(socket.AF_UNIX).connect(f"\0{targets['abstract']}"),
        "io_uring": lambda: call("io_uring", 1, ctypes.create_string_buffer(256)),
        "keyring": lambda: call("keyring", b"user", b"bakeoff", b"x", 1, -2),
        "bpf": lambda: call("bpf", 0, ctypes.create_string_buffer(ARRAY_MAP, 128), 128),
        "user namespace": lambda: call("unshare", CLONE_NEWUSER),
        "capabilities": lambda: refuse() if int(status("CapEff"), 16) == 0 else None,
        "new privileges": lambda: refuse() if status("NoNewPrivs") == "1" else None,
        "unlimited disk": lambda: refuse() if is_bounded("/tmp") and is_bounded("/dev/shm") else None,  # noqa: S108
    }
    return {name: attempt(action) for name, action in attempts.items()}


def attempt(action: Callable[[], object]) -> str:
    """Return "closed" if the action raises OSError, else "open"."""
    try:
        action()
    except OSError:
        return CLOSED
    return OPEN


def change_rights(file: Path) -> None:
    """Change a file's mode to 0664. Raises PermissionError if the mode stays: a filter may report success without effect."""
    file.chmod(0o664)
    if file.stat().st_mode & 0o777 != 0o664:
        refuse()


def refuse() -> None:
    raise PermissionError


def call(name: str, *arguments: Any) -> int:
    """Make the system call ``name`` and return its result. Raises OSError if the kernel refuses it or its number is unknown."""
    number = SYSTEM_CALLS[name].get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"the number of {name} on {platform.machine()} is not known here")
    libc = ctypes.CDLL(None, use_errno=True)
    answer = libc.syscall(ctypes.c_long(number), *arguments)
    if answer == -1:
        raise OSError(ctypes.get_errno(), name)
    return int(answer)


def status(field: str) -> str:
    """Return the first word of a field of /proc/self/status; "" if there is no such field."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return line.split()[1]
    return ""


def other_processes() -> list[int]:
    """Return the ids of the processes visible in /proc, except this one and its ancestors."""
    own, pid = set(), os.getpid()
    while pid > 0:
        own.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and int(entry.name) not in own]


def is_bounded(folder: str) -> bool:
    """Return whether a folder is on a filesystem of its own (not that of /) with less than 100 GB."""
    filesystem = os.statvfs(folder)
    return filesystem.f_blocks * filesystem.f_frsize < 10**11 and os.stat(folder).st_dev != os.stat("/").st_dev  # noqa: PTH116


if __name__ == "__main__":
    main()
