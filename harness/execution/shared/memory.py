"""Memory that parent and child share: arrays of a size that the parent fixes, and pickled models."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import numpy as np

from harness.contract import Array, OutputSpec


def map_array(fd: int, shape: Sequence[int], dtype: str, *, shared: bool = False) -> Array:
    """Return an array of ``shape`` and ``dtype`` that maps the file behind a descriptor.

    Writes to the array are seen by no other process, unless ``shared``.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size == 0:
        return np.empty(shape, dtype)
    mapped = mmap.mmap(
        fd, size, flags=mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
    )
    return np.frombuffer(mapped, dtype).reshape(shape)


def memfd() -> int:
    """Return the descriptor of a new, empty, unnamed file: in memory on Linux, elsewhere a temporary file on disk."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("bakeoff", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def seal(fd: int, *names: str) -> None:
    """Add the seals ``names`` (such as F_SEAL_WRITE) to a memfd. Does nothing where the system has no seals.

    Raises OSError if a writable mapping prevents a seal.
    """
    if hasattr(fcntl, "F_ADD_SEALS"):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, sum(getattr(fcntl, name) for name in names))


def copy_data(source: int, target: int) -> None:
    """Copy one file to another, empty one. Holes stay holes: they cost their writer nothing, and should not fill this memory."""
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    end = 0
    while end < size:
        try:
            offset = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            raise
        end = os.lseek(source, offset, os.SEEK_HOLE)
        while offset < end:
            offset += os.pwrite(target, os.pread(source, min(1 << 24, end - offset), offset), offset)


class SealedBytes(AbstractContextManager["SealedBytes"]):
    """Pickled model in a memfd. A child writes it; after `seal` nobody can change it. Close it when done.

    The parent never unpickles the model.
    """

    SEALS = ("F_SEAL_WRITE", "F_SEAL_SHRINK", "F_SEAL_GROW", "F_SEAL_SEAL")

    def __init__(self) -> None:
        self.fd = memfd()

    def seal(self) -> None:
        """Replace the file by a sealed copy of its current bytes. Raises OSError while a process can still write through a mapping.

        The copy is needed because a seal protects bytes only: the writer keeps a descriptor of its file, and could send signals to
        the next reader through the file's offset, times, rights and attributes.
        """
        seal(self.fd, *self.SEALS)
        written, self.fd = self.fd, memfd()
        try:
            copy_data(written, self.fd)
        finally:
            os.close(written)
        seal(self.fd, *self.SEALS)

    @property
    def allocated(self) -> int:
        """Bytes of memory that the content takes, holes left out."""
        return os.fstat(self.fd).st_blocks * 512

    def copy(self) -> SealedBytes:
        """Return a sealed copy. Each reader gets its own, for the reason that `seal` makes one: readers of one file are linked."""
        copied = SealedBytes()
        try:
            copy_data(self.fd, copied.fd)
            seal(copied.fd, *self.SEALS)
        except BaseException:
            copied.close()
            raise
        return copied

    def close(self) -> None:
        os.close(self.fd)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SharedArray(AbstractContextManager["SharedArray"]):
    """Array of fixed shape and dtype in an unnamed file. A child maps it through the file's descriptor. Close it when done.

    ``fill`` is one byte, the initial value of each byte of the array; 0 by default.
    """

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
        """Return a copy of an array in shared memory, sealed against writes."""
        shared = cls(array.shape, array.dtype.str)
        rows = max(1, (1 << 26) // max(array[:1].nbytes, 1))
        offset = 0
        for start in range(0, len(array), rows):
            piece = (
                memoryview(np.ascontiguousarray(array[start : start + rows]).data).cast("B")
                if array.size
                else memoryview(b"")
            )
            while piece:
                written = os.pwrite(shared.fd, piece, offset)
                offset, piece = offset + written, piece[written:]
        seal(shared.fd, "F_SEAL_WRITE", "F_SEAL_SEAL")
        return shared

    @classmethod
    def blank(cls, forms: Sequence[OutputSpec]) -> SharedArray:
        """Return a buffer of bytes, large enough for an answer in any of the output specs ``forms``.

        All bits are set, so that values that a child does not write are NaN as floats and -1 as integers.
        """
        return cls((max(form.nbytes for form in forms),), "u1", fill=b"\xff")

    def spec(self, name: str) -> dict[str, Any]:
        """Return ``name`` and the array's shape and dtype as a JSON object, with which a child maps the array."""
        return {"name": name, "shape": self.shape, "dtype": self.dtype}

    def read(self, form: OutputSpec) -> Array:
        """Return a private copy of the current bytes, as an array with the shape and dtype of the output spec ``form``."""
        return np.array(map_array(self.fd, form.shape, form.dtype))

    def close(self) -> None:
        os.close(self.fd)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
