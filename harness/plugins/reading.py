"""Reading of files that strangers wrote: plain files only, of a bounded size."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from harness.errors import PluginError

MAX_CODE_BYTES = 4 << 20
"""Largest Python file of a plug-in."""
MAX_FILE_BYTES = 2 << 30
"""Largest other file that a plug-in brings along."""


def read_plain_file(path: Path, limit: int) -> bytes:
    """Return a file's content. Raises PluginError for a pipe, a device or more than ``limit`` bytes, and OSError.

    The file is opened once and judged by its descriptor, so that no other file can be put in its place. An ordinary open of a pipe
    would wait for its writer.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise PluginError(f"{path} should be a plain file")
        content = file.read(limit + 1) if status.st_size <= limit else b""
        if status.st_size > limit or len(content) > limit:
            raise PluginError(
                f"{path} should have at most {limit:,} bytes; it has {max(status.st_size, len(content)):,}"
            )
        return content
