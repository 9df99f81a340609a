"""Calls large and recent kernel interfaces: io_uring, bpf, keys, userfaultfd, perf, file handles, modules, file notifications.

Hopes for a way around the filter, or for a bug in the kernel.
"""

import ctypes
import platform

from _base import Ignorant, attempt

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: run by root, it may do what root may"}
BY_NUMBER = {
    "io_uring_setup": (425, 1, ctypes.create_string_buffer(256)),
    "bpf": (321, 0, ctypes.create_string_buffer(128), 128),
    "add_key": (248, b"user", b"x", b"x", 1, -2),
    "keyctl": (250, 0, -3, 1),
    "userfaultfd": (323, 1),
    "perf_event_open": (298, ctypes.create_string_buffer(128), 0, -1, -1, 0),
    "open_by_handle_at": (304, -100, ctypes.create_string_buffer(128), 0),
    "name_to_handle_at": (303, -100, b"/", ctypes.create_string_buffer(256), ctypes.create_string_buffer(8), 0),
    "init_module": (175, b"x", 1, b""),
    "kexec_load": (246, 0, 0, None, 0),
    "syslog": (103, 3, ctypes.create_string_buffer(64), 64),
    "fanotify_init": (300, 0, 0),
    "pidfd_open": (434, 1, 0),
    "process_madvise": (440, 0, None, 0, 0, 0),
    "clone3": (435, ctypes.create_string_buffer(88), 88),
    "inotify_init1": (294, 0),
    "setxattrat": (463, -100, b".", 0, b"user.x", ctypes.create_string_buffer(16), 16),
    "reboot": (169, 0xFEE1DEAD, 672274793, 0, None),
}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        if platform.machine() != "x86_64":
            return
        libc = ctypes.CDLL(None, use_errno=True)

        def call(number, *arguments):
            if libc.syscall(ctypes.c_long(number), *arguments) < 0:
                raise OSError(ctypes.get_errno(), "refused")

        for name, arguments in BY_NUMBER.items():
            attempt(name, lambda arguments=arguments: call(*arguments))
