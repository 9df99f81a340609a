"""The first thing that runs in a child: give up what it may not have, then become the module that was asked for.

``python -m harness.execution.child.lockdown SETTINGS MODULE [ARGUMENT...]``. Nothing that starts a thread is imported before the
locks are on, because Landlock binds the thread that calls it and those that it starts. bubblewrap brings its own seccomp filter
along; where there is no bubblewrap the filter is loaded here.
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


def restrict_files(read: Sequence[str], write: Sequence[str]) -> None:
    """Landlock: nothing but these paths; no TCP; no signal or abstract socket to anything outside, where the kernel knows how."""
    from landlock import FSAccess, Ruleset, landlock_abi_version
    from landlock.plumbing import RulesetAttr, get_create_ruleset

    class WideAttr(RulesetAttr):  # type: ignore[misc]
        """The ruleset's later fields, which the library does not know yet."""

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
    look = FSAccess.EXECUTE | FSAccess.READ_FILE | FSAccess.READ_DIR
    for paths, access in ((read, look), (write, FSAccess.all())):
        for path in paths:
            if os.path.isdir(path):  # noqa: PTH112, pathlib costs time in every child
                rules.allow(path, rules=access)
            elif os.path.exists(path):  # noqa: PTH110
                rules.allow(path, rules=access & FSAccess.all_file())
    ctypes.set_errno(0)
    rules.apply()


def change_user(uid: int) -> None:
    """Become nobody in particular. A container may not have so high a number; every Linux has 65534."""
    os.setgroups([])
    try:
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    except OSError:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)


def lock(settings: Mapping[str, Any]) -> None:
    """Everything that ``settings`` asks for, in an order in which each step is still allowed. Raises where one fails."""
    if settings.get("uid") is not None:
        change_user(int(settings["uid"]))
    if "read" in settings:
        restrict_files(settings["read"], settings["write"])
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
