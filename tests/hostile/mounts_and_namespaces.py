"""Mounts, unmounts, changes its root, and asks for namespaces of its own, in which it would be root.

Hopes to remove a read-only mount, or to reach kernel code that is for root only.
"""

import ctypes
import os

from _base import Ignorant, attempt

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: run by root, it may do what root may"}
SPACES = {
    "user": 0x10000000,
    "mounts": 0x20000,
    "network": 0x40000000,
    "processes": 0x20000000,
    "time": 0x80,
    "cgroup": 0x2000000,
}
REMOUNT_BIND = 32 | 4096


class Attack(Ignorant):
    def fit(self, train, valid, report):
        libc = ctypes.CDLL(None, use_errno=True)

        def call(function, *arguments):
            if function(*arguments) < 0:
                raise OSError(ctypes.get_errno(), "refused")

        for name, flag in SPACES.items():
            attempt(f"unshare {name}", lambda flag=flag: call(libc.unshare, flag))
            attempt(f"clone {name}", lambda flag=flag: clone(flag))
        attempt("mount", lambda: call(libc.mount, b"none", b"/tmp", b"tmpfs", 0, None))
        attempt("remount", lambda: call(libc.mount, b"none", b"/usr", None, REMOUNT_BIND, None))
        attempt("umount", lambda: call(libc.umount2, b"/usr", 2))
        attempt("pivot_root", lambda: call(libc.syscall, 155, b"/tmp", b"/tmp"))
        attempt("chroot", lambda: os.chroot("/tmp"))
        attempt("open_tree", lambda: call(libc.syscall, 428, -100, b"/", 1))
        attempt("fsopen", lambda: call(libc.syscall, 430, b"tmpfs", 0))
        attempt("setns", lambda: call(libc.setns, os.open("/proc/1/ns/mnt", os.O_RDONLY), 0))
        attempt("mknod", lambda: os.mknod("disk", 0o600 | 0o060000, os.makedev(254, 0)))
        attempt("sethostname", lambda: call(libc.sethostname, b"evil", 4))


def clone(flag):
    """Call clone(2) by its number, bypassing the C library; the child exits at once."""
    answer = ctypes.CDLL(None, use_errno=True).syscall(56, ctypes.c_ulong(flag | 17), 0, 0, 0, 0)
    if answer == 0:
        os._exit(0)
    if answer < 0:
        raise OSError(ctypes.get_errno(), "clone")
