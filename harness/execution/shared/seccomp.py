"""Seccomp filter of sandboxed processes. In tier A bubblewrap loads it, in tier B the child itself (`child.lockdown`)."""

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
    "numbers of the whole machine": "io_setup io_submit io_getevents io_pgetevents io_destroy io_cancel sysinfo mincore",
    "the machine itself": "reboot swapon swapoff kexec_load kexec_file_load init_module finit_module delete_module acct quotactl "
    "quotactl_fd settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname iopl ioperm vhangup mknod mknodat",
}
"""Names of denied system calls, separated by spaces, by purpose. No model needs them, and libraries tolerate the error EPERM."""


NEW_SYSCALLS = range(451, 512)
"""Numbers of system calls that Linux has added since 2023 or may still add, the same on every architecture. Their effects are
unknown here (463 sets file attributes), so the filter lets them fail with ENOSYS, as on an older kernel."""


LOCK_COMMANDS = (6, 7, 37, 38, 5, 36)
"""Commands F_SETLK, F_SETLKW and F_GETLK of fcntl, and their variants for open file descriptions. Through locks on common files
sandboxes could signal to each other, so the filter lets these commands succeed without effect. No other process competes for the
locks."""


LEASE_COMMANDS = (1024, 1026)
"""Commands F_SETLEASE and F_NOTIFY of fcntl, denied because they report when other processes access a file."""


RWF_NOWAIT, MADV_COLD, MADV_PAGEOUT = 8, 20, 21
"""Flag of preadv2 that tests if a page of a file is in memory, and the two kinds of advice to madvise that evict a page. All
sandboxes read the same libraries, so one could signal to another through the cached pages. The filter lets the advice succeed
without effect, and such reads fail. (The duration of a read still tells.)"""


NAMESPACE_FLAGS = (0x00000080, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
"""Flags of clone that make namespaces (linux/sched.h): CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and
NEWNET. All are denied."""


OWNER_SYSCALLS = (
    *("chmod", "fchmod", "fchmodat", "chown", "lchown", "fchown", "fchownat"),
    *("utime", "utimes", "utimensat", "futimesat"),
)
"""System calls with which a file's owner can change it without opening it; Landlock does not control them. In tier B the user
may own many files, so the filter lets these calls succeed without effect."""


TIOCSTI, TIOCLINUX = 0x5412, 0x541C


FILE_FLAG_REQUESTS = (
    0x40086602,
    0x40046602,
    0x401C5820,
    0x40087602,
)  # FS_IOC_SETFLAGS of both sizes, FSSETXATTR and SETVERSION


AF_UNIX = 1


def seccomp_filter(*, own_files: bool) -> Any:
    """Return the filter of a sandboxed process, a `pyseccomp.SyscallFilter`.

    ``own_files``: the process has its own file system and network (tier A), so Unix sockets and `OWNER_SYSCALLS` are allowed.
    """
    import pyseccomp as seccomp

    denied, absent = seccomp.ERRNO(errno.EPERM), seccomp.ERRNO(errno.ENOSYS)
    rules = seccomp.SyscallFilter(seccomp.ALLOW)

    def existing(names: Sequence[str]) -> Iterator[str]:
        """Yield the system calls among ``names`` that exist on this architecture."""
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
    """Write the filter of tier A to an open file, as the BPF program that bubblewrap loads."""
    seccomp_filter(own_files=True).export_bpf(file)
