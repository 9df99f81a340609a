"""First module of a sandboxed child: drop rights, then run the requested module.

``python -m harness.execution.child.lockdown SETTINGS MODULE [ARGUMENT...]``; SETTINGS is a JSON object for `lock`. Nothing that
starts a thread is imported before the locks are set, because Landlock binds the calling thread and its later threads only. Tier A
gets its seccomp filter from bubblewrap; tier B loads it here.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import runpy
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from harness.execution.shared.seccomp import seccomp_filter


def restrict_files(read: Sequence[str], listed: Sequence[str], write: Sequence[str]) -> None:
    """Restrict this process to these paths with Landlock; also deny TCP, outside signals and abstract sockets if the kernel can.

    Of folders ``listed`` it sees the names alone.
    """
    from landlock import FSAccess, Ruleset, landlock_abi_version
    from landlock.plumbing import RulesetAttr, get_create_ruleset

    class WideAttr(RulesetAttr):  # type: ignore[misc]
        """Attributes of a Landlock ruleset, with the later fields (network and scopes) that the library ``landlock`` lacks."""

        _fields_ = [("handled_access_net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]

    class Wide(Ruleset):  # type: ignore[misc]
        def __post_init__(self) -> None:
            abi = landlock_abi_version()
            tcp = 0b11 if abi >= 4 else 0  # bind and connect
            scopes = 0b11 if abi >= 6 else 0  # abstract Unix sockets and signals
            attributes = WideAttr(FSAccess.all(), tcp, scopes)
            size = 24 if abi >= 6 else 16 if abi >= 4 else 8
            object.__setattr__(self, "_fd", get_create_ruleset()(ctypes.byref(attributes), size, 0))

    rules = Wide()
    read_access = FSAccess.EXECUTE | FSAccess.READ_FILE | FSAccess.READ_DIR
    for paths, access in ((read, read_access), (listed, FSAccess.READ_DIR), (write, FSAccess.all())):
        for path in paths:
            if os.path.isdir(path):  # noqa: PTH112, pathlib costs time in every child
                rules.allow(path, rules=access)
            elif os.path.exists(path):  # noqa: PTH110
                rules.allow(path, rules=access & FSAccess.all_file())
    ctypes.set_errno(0)
    rules.apply()


def change_user(uid: int) -> None:
    """Change this process to the unprivileged user and group ``uid``; to 65534 (nobody) if a container lacks so high a number."""
    os.setgroups([])
    try:
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    except OSError:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)


def lock(settings: Mapping[str, Any]) -> None:
    """Lock this process down by ``settings``: uid, read and write (paths), seccomp (true or false), rlimits. All are optional.

    The order of the steps keeps each of them permitted. Raises if a step fails.
    """
    if settings.get("uid") is not None:
        change_user(int(settings["uid"]))
    if "read" in settings:
        restrict_files(settings["read"], settings.get("list", ()), settings["write"])
    if settings.get("seccomp"):
        seccomp_filter(own_files=False).load()
    for name, limit in settings.get("rlimits", {}).items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        value = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(number, (value, value))


def main() -> None:
    lock(json.loads(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
