"""The command line of this process, which every user of the machine can read."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

ARGUMENT_START, ARGUMENT_END = 45, 46
"""Fields of /proc/self/stat behind the process's name: the addresses of the arguments."""


def hide_password(store: str | None) -> None:
    """Overwrite the password of a store's URL in the arguments of this process (Linux): /proc shows them to other users."""
    password = password_of(store)
    if not password or sys.platform != "linux":
        return
    with suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[ARGUMENT_START]), int(fields[ARGUMENT_END])
        arguments, secret = ctypes.string_at(start, end - start), password.encode()
        place = arguments.find(secret)
        while place >= 0:
            ctypes.memset(start + place, ord("*"), len(secret))
            place = arguments.find(secret, place + len(secret))


def password_of(store: str | None) -> str | None:
    """Return the password in a URL as it stands there; None if there is none."""
    try:
        return urlsplit(store or "").password
    except ValueError:
        return None
