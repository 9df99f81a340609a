"""System calls that a sandboxed process is refused. Parent (bubblewrap) and child (lockdown) load the same filter."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO, Any

FORBIDDEN_SYSCALLS = {
    "other processes and their memory": "ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd pidfd_open "
    "pidfd_send_signal",
    "the kernel's larger and younger doors": "io_uring_setup io_uring_enter io_uring_register bpf perf_event_open userfaultfd "
    "keyctl add_key request_key open_by_handle_at name_to_handle_at fanotify_init lookup_dcookie syslog",
    "mounts and namespaces": "mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick move_mount open_tree mount_setattr "
    "unshare setns",
    "what stays with a file or a name for another process to find": "setxattr lsetxattr fsetxattr removexattr lremovexattr "
    "fremovexattr inotify_init inotify_init1 shmget shmat semget semop semtimedop msgget msgsnd msgrcv mq_open mq_unlink",
    "the machine itself": "reboot swapon swapoff kexec_load kexec_file_load init_module finit_module delete_module acct quotactl "
    "quotactl_fd settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname iopl ioperm vhangup mknod mknodat",
}
"""System calls that no model needs, by what they reach. They fail with EPERM, which a library can live with."""


NEW_SYSCALLS = range(451, 512)
"""The numbers, the same on every architecture, that system calls have been given since 2023 and will be. What they do no list of
names knows (463 sets attributes of files, too); they are absent, as on an older kernel."""


LOCK_COMMANDS = (6, 7, 37, 38, 5, 36)
"""fcntl's F_SETLK, F_SETLKW and F_GETLK, and those of open file descriptions. On files that every sandbox sees they are signals
from one to another, so they are granted and not kept: there is nobody else to keep them from."""


LEASE_COMMANDS = (1024, 1026)  # F_SETLEASE and F_NOTIFY, which tell what others open


RWF_NOWAIT, MADV_COLD, MADV_PAGEOUT = 8, 20, 21
"""What asks whether a page of a file is in memory, and what has it thrown out. All sandboxes read the same libraries, and by what
it reads there one could write for another to see. Advice is taken and not followed. (How long a read takes still tells.)"""


NAMESPACE_FLAGS = (0x00000080, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
"""CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET of linux/sched.h."""


OWNER_SYSCALLS = (
    *("chmod", "fchmod", "fchmodat", "chown", "lchown", "fchown", "fchownat"),
    *("utime", "utimes", "utimensat", "futimesat"),
)
"""What an owner may do to a file without opening it, and Landlock does not know. Where the sandbox has no file system of its own,
the files are all of the user's: these are granted and not done."""


TIOCSTI, TIOCLINUX = 0x5412, 0x541C


FILE_FLAG_REQUESTS = (
    0x40086602,
    0x40046602,
    0x401C5820,
    0x40087602,
)  # FS_IOC_SETFLAGS of both sizes, FSSETXATTR and SETVERSION


AF_UNIX = 1


def seccomp_filter(*, own_files: bool) -> Any:
    """What a sandboxed process may not ask of the kernel.

    ``own_files``: it has a file system and a network of its own, so that Unix sockets can be let through and owners' rights.
    """
    import pyseccomp as seccomp

    denied, absent = seccomp.ERRNO(errno.EPERM), seccomp.ERRNO(errno.ENOSYS)
    rules = seccomp.SyscallFilter(seccomp.ALLOW)

    def known(names: Sequence[str]) -> Iterator[str]:
        """Those that this architecture has."""
        for name in names:
            with suppress(ValueError, RuntimeError):
                if seccomp.resolve_syscall(seccomp.Arch.NATIVE, name) >= 0:
                    yield name

    for name in known(" ".join(FORBIDDEN_SYSCALLS.values()).split()):
        rules.add_rule(denied, name)
    for number in NEW_SYSCALLS:
        rules.add_rule(absent, number)
    granted = seccomp.ERRNO(0)
    rules.add_rule(granted, "flock")
    rules.add_rule(granted, "fadvise64")
    for advice in (MADV_COLD, MADV_PAGEOUT):
        rules.add_rule(granted, "madvise", seccomp.Arg(2, seccomp.MASKED_EQ, 0xFFFFFFFF, advice))
    rules.add_rule(
        seccomp.ERRNO(errno.EOPNOTSUPP), "preadv2", seccomp.Arg(5, seccomp.MASKED_EQ, RWF_NOWAIT, RWF_NOWAIT)
    )
    for commands, answer in ((LOCK_COMMANDS, granted), (LEASE_COMMANDS, denied)):
        for command in commands:
            rules.add_rule(answer, "fcntl", seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, command))
    for flag in NAMESPACE_FLAGS:
        rules.add_rule(denied, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
    # clone3's flags lie in memory, where no filter can look; the C library goes back to clone.
    rules.add_rule(absent, "clone3")
    for request in (TIOCSTI, TIOCLINUX, *FILE_FLAG_REQUESTS):
        rules.add_rule(denied, "ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, request))
    refused = seccomp.ERRNO(errno.EACCES)
    if own_files:
        rules.add_rule(refused, "socket", seccomp.Arg(0, seccomp.NE, AF_UNIX))
    else:
        rules.add_rule(refused, "socket")
        for name in known(OWNER_SYSCALLS):
            rules.add_rule(granted, name)
    return rules


def export_filter(file: IO[bytes]) -> None:
    """The filter of `seccomp_filter` as the program that bubblewrap loads."""
    seccomp_filter(own_files=True).export_bpf(file)
