"""Folders that strangers filled: measured and removed without a call per level, since folders may be nested without end."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MAX_DEPTH = 64
"""Levels of folders that are measured. Deeper ones count as an exceeded disk limit: no model needs them."""


class TooDeep(OSError):
    """Folders that are nested deeper than `MAX_DEPTH`."""


def entries_below(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield all files and folders below a folder, links not followed. Raises TooDeep."""
    pending = [(str(folder), 0)]
    while pending:
        path, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise TooDeep(errno.ENAMETOOLONG, f"folders are nested more than {MAX_DEPTH} deep")
        try:
            found = list(os.scandir(path))
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise TooDeep(error.errno, "a path is too long") from error
            continue  # gone meanwhile
        for entry in found:
            yield entry
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    pending.append((entry.path, depth + 1))


def disk_usage(folder: Path) -> int:
    """Return the bytes of disk that the files below a folder take. Raises TooDeep."""
    total = 0
    for entry in entries_below(folder):
        with suppress(OSError):
            total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def remove_tree(folder: Path) -> None:
    """Remove a folder with all below it, as far as rights allow. A second call does nothing.

    Folders two levels down move up to the first level before they are emptied. So no path grows, however deep they were nested.
    """
    names = (folder / f".removed-{number}" for number in itertools.count())
    with suppress(OSError):
        pending = [folder]
        while pending:
            current = pending[-1]
            moved = _empty(current, names)
            if moved:
                pending += moved
            else:
                pending.pop()
                current.rmdir()
    if folder.exists():  # a file that could not be removed stopped this: try the others
        with suppress(RecursionError):
            shutil.rmtree(folder, ignore_errors=True)


def _empty(folder: Path, names: Iterator[Path]) -> list[Path]:
    """Remove the files of a folder, and move its folders to fresh names. Return the folders at their new places."""
    with suppress(OSError):
        folder.chmod(0o700)
    moved = []
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            with suppress(OSError):
                os.chmod(entry.path, 0o700)  # noqa: PTH101, a folder without rights cannot be moved
            place = next(names)
            while place.exists():
                place = next(names)
            os.rename(entry.path, place)  # noqa: PTH104
            moved.append(place)
        else:
            os.unlink(entry.path)  # noqa: PTH108
    return moved
