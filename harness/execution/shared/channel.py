"""Messages between parent and child: small JSON objects and file descriptors. No pickle is used: reading a message runs no code."""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import ChannelClosed

MESSAGE_LIMIT_BYTES = 1 << 20
"""Largest message, in bytes, that a `Channel` accepts by default."""
SMALL_MESSAGE_BYTES = 4096
"""Largest message, in bytes, that the parent accepts from a ready server, which only reports exits of forks."""
MAX_FDS = 16
MAX_TEXT_CHARACTERS = 20_000


class Channel:
    """One end of a connection that carries length-prefixed JSON messages over a Unix stream socket.

    ``takes_fds``: this end also receives file descriptors; only children set it. ``tells_pid``: this end also learns the process id
    of the sender of its first message, from the kernel and on Linux only; see `pid`.
    """

    def __init__(self, sock: socket.socket, *, takes_fds: bool = False, tells_pid: bool = False) -> None:
        self.socket, self.takes_fds = sock, takes_fds
        self.message_limit = MESSAGE_LIMIT_BYTES
        self.pid: int | None = None
        """Process id of the sender of the first received message, as this process numbers it. None before, and if the kernel
        does not tell it."""
        self.wants_pid = tells_pid and hasattr(socket, "SO_PASSCRED")
        if self.wants_pid:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """Send a message, with the file descriptors ``fds``. Raises ChannelClosed if the socket fails."""
        body = json.dumps(message).encode()
        head = len(body).to_bytes(4, "big")
        try:
            if fds:
                socket.send_fds(self.socket, [head], list(fds))
            else:
                self.socket.sendall(head)
            self.socket.sendall(body)
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def receive(self, deadline: float | None = None) -> tuple[dict[str, Any], list[int]]:
        """Wait for the next message; return it and its file descriptors (none unless ``takes_fds``).

        Raises TimeoutError at ``deadline`` (in seconds of `time.monotonic`; None waits without end), and ChannelClosed if the
        channel ends or sends anything but a JSON object of at most ``message_limit`` bytes.
        """
        fds: list[int] = []
        try:
            self._wait(deadline)
            if self.takes_fds:
                head, fds, _, _ = socket.recv_fds(self.socket, 4, MAX_FDS)
            elif self.wants_pid and self.pid is None:
                head = self._head_with_pid()
            else:  # the kernel closes descriptors that nobody receives
                head = self.socket.recv(4)
            head += self._exactly(4 - len(head), deadline) if head else b""
            size = int.from_bytes(head, "big")
            if not head or size > self.message_limit:
                raise ChannelClosed("no message" if not head else f"a message of {size} bytes")
            message = json.loads(self._exactly(size, deadline))
        except TimeoutError:
            raise
        except (OSError, ValueError, RecursionError) as error:
            raise ChannelClosed(str(error)) from error
        if not isinstance(message, dict):
            raise ChannelClosed("a message that is no object")
        return message, fds

    def _head_with_pid(self) -> bytes:
        """Return the first bytes of a message, at most 4, and set `pid` from the sender's credentials (SCM_CREDENTIALS).

        The buffer has no room for file descriptors, so the kernel closes any that are sent.
        """
        size = struct.calcsize("3i")
        head, extra, _, _ = self.socket.recvmsg(4, socket.CMSG_SPACE(size))
        for level, kind, data in extra:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(data) >= size:
                self.pid = struct.unpack("3i", data[:size])[0] or None
        return head

    def _wait(self, deadline: float | None) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        self.socket.settimeout(left)

    def _exactly(self, size: int, deadline: float | None) -> bytes:
        pieces = []
        while size:
            self._wait(deadline)
            piece = self.socket.recv(size)
            if not piece:
                raise ChannelClosed("the connection ended inside a message")
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        self.socket.close()


# Values from a child are untrusted: these functions return them with the right type and range, or as empty or None.


def clean_line(value: object, limit: int = 600) -> str:
    """Return an untrusted string as one line of at most ``limit`` printable characters; "" for a value of another type."""
    return clean_text(value, 10 * limit).replace("\n", " ")[:limit]


def clean_text(value: object, limit: int) -> str:
    """Return an untrusted string as at most ``limit`` printable characters and line ends; "" for a value of another type."""
    if not isinstance(value, str):
        return ""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in value[:limit])


def whole_number(value: object, most: int = 2**62) -> int | None:
    """Return an untrusted value if it is an integer (no bool) in 0..``most``, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most else None


def finite_number(value: object) -> float | None:
    """Return an untrusted value as a float if it is a finite int or float (no bool), else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
