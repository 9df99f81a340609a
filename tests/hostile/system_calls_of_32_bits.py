"""Makes system calls as a 32-bit program would, with other numbers: 41 is dup, 39 mkdir, 26 ptrace.

Hopes that the filter checks numbers alone. It may also be ended by SIGSYS.
"""

import ctypes
import mmap
import os
import platform

from _base import GotThrough, Ignorant

VERDICT = {"status": "failed", "error": "signal SIG"}
TIERS = {"process": "not promised: it has no filter"}
# mov eax, 26 (ptrace); mov ebx, 0 (PTRACE_TRACEME); int 0x80; ret
CODE = b"\xb8\x1a\x00\x00\x00\xbb\x00\x00\x00\x00\xcd\x80\xc3"


class Attack(Ignorant):
    def fit(self, train, valid, report):
        if platform.machine() != "x86_64":
            os.abort()
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(CODE)
        call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
        if call() >= 0:
            raise GotThrough("is traced by its parent")
        os.abort()
