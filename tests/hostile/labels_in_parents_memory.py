"""Reads the parent's memory, environment and open files, and those of every process that it can see.

Hopes for the hidden labels where they certainly are.
"""

import ctypes
import os
from pathlib import Path

from _base import TOLD, Ignorant, attempt

VERDICT = {"status": "complete", "chance": True}
TIERS = {"process": "not promised: it can read what you can"}


class Attack(Ignorant):
    def fit(self, train, valid, report):
        libc = ctypes.CDLL(None, use_errno=True)
        own = {os.getpid(), os.getppid()}
        seen = {int(entry) for entry in os.listdir("/proc") if entry.isdigit()} - own
        for pid in {TOLD["parent"], TOLD["victim"]} | seen:
            place = Path("/proc", str(pid))
            if pid == 1 and "bwrap" in place.joinpath("cmdline").read_text():
                continue  # the sandbox's own first process holds nothing: see kills_its_own_house
            attempt(f"environment of {pid}", place.joinpath("environ").read_bytes, b"")
            attempt(f"maps of {pid}", place.joinpath("maps").read_text, "")  # a thread of the kernel has none
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
