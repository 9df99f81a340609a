"""Seccomp filter of sandboxed processes. Tier A loads it through bubblewrap (parent), tier B in lockdown (child)."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO, Any

FORBIDDEN_SYSCALLS = {
    "other processes and their memory": "ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd pidfd_open "
    "pidfd_send_signal",
    "large and recent interfaces of the kernel": "io_uring_setup io_uring_enter io_uring_register bpf perf_event_open userfaultfd "
    "keyctl add_key request_key open_by_handle_at name_to_handle_at fanotify_init lookup_dcookie syslog",
    "mounts and namespaces": "mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick move_mount open_tree mount_setattr "
    "unshare setns",
    "marks on files and names that another process can find": "setxattr lsetxattr fsetxattr removexattr lremovexattr "
    "fremovexattr inotify_init inotify_init1 shmget shmat semget semop semtimedop msgget msgsnd msgrcv mq_open mq_unlink",
    "the machine itself": "reboot swapon swapoff kexec_load kexec_file_load init_module finit_module delete_module acct quotactl "
    "quotactl_fd settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname iopl ioperm vhangup mknod mknodat",
}
"""Denied system calls by purpose. No model needs them, and libraries tolerate their EPERM."""


NEW_SYSCALLS = range(451, 512)
"""Numbers of system calls since 2023 and to come, the same on every architecture. Their effects are unknown here (463 sets file
attributes), so they fail with ENOSYS, as on an older kernel."""


LOCK_COMMANDS = (6, 7, 37, 38, 5, 36)
"""F_SETLK, F_SETLKW and F_GETLK of fcntl, and their variants for open file descriptions. Locks on files that all sandboxes see
would be signals between them, so these calls succeed without effect. No other process competes for the locks."""


LEASE_COMMANDS = (1024, 1026)
"""F_SETLEASE and F_NOTIFY of fcntl, which report accesses of other processes."""


RWF_NOWAIT, MADV_COLD, MADV_PAGEOUT = 8, 20, 21
"""Flags that test if a page of a file is in memory, and that evict it. All sandboxes read the same libraries, so one could signal
to another through their cached pages. Advice succeeds without effect, such reads fail. (The duration of a read still tells.)"""


NAMESPACE_FLAGS = (0x00000080, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
"""CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET of linux/sched.h."""


OWNER_SYSCALLS = (
    *("chmod", "fchmod", "fchmodat", "chown", "lchown", "fchown", "fchownat"),
    *("utime", "utimes", "utimensat", "futimesat"),
)
"""Changes to a file that its owner can make without opening it, which Landlock does not control. In tier B the user may own many
files, so these calls succeed without effect."""


TIOCSTI, TIOCLINUX = 0x5412, 0x541C


FILE_FLAG_REQUESTS = (
    0x40086602,
    0x40046602,
    0x401C5820,
    0x40087602,
)  # FS_IOC_SETFLAGS of both sizes, FSSETXATTR and SETVERSION


AF_UNIX = 1


def seccomp_filter(*, own_files: bool) -> Any:
    """Return the filter of a sandboxed process.

    ``own_files``: the process has its own file system and network, so Unix sockets and `OWNER_SYSCALLS` are allowed.
    """
    import pyseccomp as seccomp

    denied, absent = seccomp.ERRNO(errno.EPERM), seccomp.ERRNO(errno.ENOSYS)
    rules = seccomp.SyscallFilter(seccomp.ALLOW)

    def existing(names: Sequence[str]) -> Iterator[str]:
        """Yield the names that exist on this architecture."""
        for name in names:
            with suppress(ValueError, RuntimeError):
                if seccomp.resolve_syscall(seccomp.Arch.NATIVE, name) >= 0:
                    yield name

    for name in existing(" ".join(FORBIDDEN_SYSCALLS.values()).split()):
        rules.add_rule(denied, name)
    for number in NEW_SYSCALLS:
        rules.add_rule(absent, number)
    ignored = seccomp.ERRNO(0)
    rules.add_rule(ignored, "flock")
    rules.add_rule(ignored, "fadvise64")
    for advice in (MADV_COLD, MADV_PAGEOUT):
        rules.add_rule(ignored, "madvise", seccomp.Arg(2, seccomp.MASKED_EQ, 0xFFFFFFFF, advice))
    rules.add_rule(
        seccomp.ERRNO(errno.EOPNOTSUPP), "preadv2", seccomp.Arg(5, seccomp.MASKED_EQ, RWF_NOWAIT, RWF_NOWAIT)
    )
    for commands, answer in ((LOCK_COMMANDS, ignored), (LEASE_COMMANDS, denied)):
        for command in commands:
            rules.add_rule(answer, "fcntl", seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, command))
    for flag in NAMESPACE_FLAGS:
        rules.add_rule(denied, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
    # A filter cannot read the flags of clone3, which lie in memory; the C library falls back to clone.
    rules.add_rule(absent, "clone3")
    for request in (TIOCSTI, TIOCLINUX, *FILE_FLAG_REQUESTS):
        rules.add_rule(denied, "ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, request))
    no_access = seccomp.ERRNO(errno.EACCES)
    if own_files:
        rules.add_rule(no_access, "socket", seccomp.Arg(0, seccomp.NE, AF_UNIX))
    else:
        rules.add_rule(no_access, "socket")
        for name in existing(OWNER_SYSCALLS):
            rules.add_rule(ignored, name)
    return rules


def export_filter(file: IO[bytes]) -> None:
    """Write the filter of `seccomp_filter` as the BPF program that bubblewrap loads."""
    seccomp_filter(own_files=True).export_bpf(file)
