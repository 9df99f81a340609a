"""Asks the kernel for numbers of the whole machine, and for pages of files that all sandboxes read.

Hopes that one call answers: such numbers are a channel to the next process.
"""

import ctypes
import mmap
import os

from _base import GotThrough, Ignorant

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: it can ask what you can"}
LIBC = ctypes.CDLL(None, use_errno=True)


class Attack(Ignorant):
    def fit(self, train, valid, report):
        space = ctypes.create_string_buffer(4096)
        if LIBC.sysinfo(space) == 0:
            raise GotThrough("sysinfo tells free memory and load")
        context = ctypes.c_ulong(0)
        if LIBC.syscall(206, 1, ctypes.byref(context)) == 0:
            raise GotThrough("io_setup counts up a number of the machine")
        with open(os.__file__, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)
        residency = ctypes.create_string_buffer(1)
        pointer = ctypes.addressof(ctypes.c_char.from_buffer_copy(mapped[:1])) & ~4095
        if LIBC.mincore(ctypes.c_void_p(pointer), 4096, residency) == 0:
            raise GotThrough("mincore tells which pages are in memory")
        return super().fit(train, valid, report)
