"""The holes that a sandbox must not have: bait that the parent lays out, and a probe that tries to take it from the inside.

``python -m harness.execution.child.probe TOLD`` prints a JSON object {hole: what happened}. Only the standard library is imported.
Each attempt is the real one (a connection is made, a file is opened), because what a kernel refuses depends on more than its
version.
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
"""A BPF map that any kernel makes for whoever may: an array of one number."""
PTRACE_SEIZE = 0x4206
"""Becomes a tracer and stops nothing; it is over when the probe ends."""


def main() -> None:
    told = json.loads(sys.argv[1])
    print(json.dumps(probe(told)))


def probe(told: Mapping[str, Any]) -> dict[str, str]:
    """Try every hole. An error is "closed"; whatever works is "open"."""
    parent, folder = int(told["parent"]), Path(told["folder"])
    attempts: dict[str, Callable[[], object]] = {
        "read a file": (folder / "labels").read_text,
        "write a file": lambda: (folder / "written").write_text("here"),
        "change a file's rights": lambda: change_rights(folder / "labels"),
        "parent's memory": lambda: os.close(os.open(f"/proc/{parent}/mem", os.O_RDONLY)),
        "parent's environment": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "signal the parent": lambda: os.kill(parent, 0) if parent != os.getpid() else refuse(),
        "trace the parent": lambda: call("ptrace", PTRACE_SEIZE, parent, 0, 0),
        "process list": lambda: refuse() if not other_processes() else None,
        "tcp": lambda: socket.create_connection(("127.0.0.1", told["tcp"]), timeout=2),
        "udp": lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", told["udp"])),
        "vsock": lambda: socket.socket(socket.AF_VSOCK),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "abstract socket": lambda: socket.socket(socket.AF_UNIX).connect(f"\0{told['abstract']}"),
        "io_uring": lambda: call("io_uring", 1, ctypes.create_string_buffer(256)),
        "keyring": lambda: call("keyring", b"user", b"bakeoff", b"x", 1, -2),
        "bpf": lambda: call("bpf", 0, ctypes.create_string_buffer(ARRAY_MAP, 128), 128),
        "user namespace": lambda: call("unshare", CLONE_NEWUSER),
        "capabilities": lambda: refuse() if int(status("CapEff"), 16) == 0 else None,
        "new privileges": lambda: refuse() if status("NoNewPrivs") == "1" else None,
        "unlimited disk": lambda: refuse() if is_bounded("/tmp") and is_bounded("/dev/shm") else None,  # noqa: S108
    }
    return {hole: attempt(action) for hole, action in attempts.items()}


def attempt(action: Callable[[], object]) -> str:
    try:
        action()
    except OSError:
        return CLOSED
    return OPEN


def change_rights(file: Path) -> None:
    """Take a right away. Whether it is gone is looked at: a filter may say yes and do nothing."""
    file.chmod(0o664)
    if file.stat().st_mode & 0o777 != 0o664:
        refuse()


def refuse() -> None:
    raise PermissionError


def call(name: str, *arguments: Any) -> int:
    """A system call by its number. Raises OSError where the kernel refuses it."""
    number = SYSTEM_CALLS[name].get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"the number of {name} on {platform.machine()} is not known here")
    libc = ctypes.CDLL(None, use_errno=True)
    answer = libc.syscall(ctypes.c_long(number), *arguments)
    if answer == -1:
        raise OSError(ctypes.get_errno(), name)
    return int(answer)


def status(field: str) -> str:
    """A field of this process's /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return line.split()[1]
    return ""


def other_processes() -> list[int]:
    """Processes that are neither this one nor its parents."""
    own, pid = set(), os.getpid()
    while pid > 0:
        own.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and int(entry.name) not in own]


def is_bounded(folder: str) -> bool:
    """Whether a folder is a filesystem of a bounded size of its own, at most a tenth of a terabyte."""
    facts = os.statvfs(folder)
    return facts.f_blocks * facts.f_frsize < 10**11 and os.stat(folder).st_dev != os.stat("/").st_dev  # noqa: PTH116


if __name__ == "__main__":
    main()
