"""Arrays in memory that two processes see, of a size that only the parent decides."""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import numpy as npOutputSpec

from harness.contract import Array, OutputSpec


def map_array(fd: int, shape: Sequence[int], dtype: str, *, shared: bool = False) -> Array:
    """The array behind a descriptor. Private pages by default: what a submission writes there nobody else sees."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size == 0:
        return np.empty(shape, dtype)
    mapped = mmap.mmap(
        fd, size, flags=mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
    )
    return np.frombuffer(mapped, dtype).reshape(shape)


def memfd() -> int:
    """A descriptor of an empty file in memory that has no name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("bakeoff", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def seal(fd: int, *names: str) -> None:
    """Forbid something for good, where the system can. Raises OSError where a writable mapping stands against it."""
    if hasattr(fcntl, "F_ADD_SEALS"):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, sum(getattr(fcntl, name) for name in names))


class SealedBytes(AbstractContextManager["SealedBytes"]):
    """Bytes that a child writes, as many as its limits let it, and nobody changes once they are sealed. Never read here."""

    SEALS = ("F_SEAL_WRITE", "F_SEAL_SHRINK", "F_SEAL_GROW", "F_SEAL_SEAL")

    def __init__(self) -> None:
        self.fd = memfd()

    def seal(self) -> None:
        """Take what stands there now. Raises OSError while somebody can still write through a mapping.

        It is copied, because a seal keeps bytes alone: place, times, rights and attributes of a file that the child has kept a
        descriptor of would still tell who is given it what has happened since.
        """
        seal(self.fd, *self.SEALS)
        written, self.fd = self.fd, memfd()
        try:
            place, size = 0, os.fstat(written).st_size
            while place < size:
                place += os.pwrite(self.fd, os.pread(written, 1 << 24, place), place)
        finally:
            os.close(written)
        seal(self.fd, *self.SEALS)

    def close(self) -> None:
        os.close(self.fd)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SharedArray(AbstractContextManager["SharedArray"]):
    """An array in a file without a name, of fixed size, that a descriptor can be handed out for."""

    def __init__(self, shape: Sequence[int], dtype: str, *, fill: bytes | None = None) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype).str
        size = int(np.prod(self.shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        self.fd = memfd()
        os.ftruncate(self.fd, size)
        if fill:
            for start in range(0, size, 1 << 20):
                os.pwrite(self.fd, fill * min(1 << 20, size - start), start)
        seal(self.fd, "F_SEAL_SHRINK", "F_SEAL_GROW")

    @classmethod
    def of(cls, array: Array) -> SharedArray:
        """A copy that nobody can write to any more."""
        shared = cls(array.shape, array.dtype.str)
        rows = max(1, (1 << 26) // max(array[:1].nbytes, 1))
        place = 0
        for start in range(0, len(array), rows):
            piece = (
                memoryview(np.ascontiguousarray(array[start : start + rows]).data).cast("B")
                if array.size
                else memoryview(b"")
            )
            while piece:
                written = os.pwrite(shared.fd, piece, place)
                place, piece = place + written, piece[written:]
        seal(shared.fd, "F_SEAL_WRITE", "F_SEAL_SEAL")
        return shared

    @classmethod
    def blank(cls, forms: Sequence[OutputSpec]) -> SharedArray:
        """Room for one answer of any of these forms, all bits set: NaN as a float, -1 as an integer."""
        return cls((max(form.nbytes for form in forms),), "u1", fill=b"\xff")

    def spec(self, name: str) -> dict[str, Any]:
        return {"name": name, "shape": self.shape, "dtype": self.dtype}

    def read(self, form: OutputSpec) -> Array:
        """A private copy of what stands there now, as ``form``."""
        return np.array(map_array(self.fd, form.shape, form.dtype))

    def close(self) -> None:
        os.close(self.fd)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
