"""Messages between parent and child: small JSON objects and file descriptors, nothing that runs when it is read."""

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
SMALL_MESSAGE_BYTES = 4096
"""Bytes of a message that says no more than how a trial ended."""
MAX_FDS = 16
MAX_TEXT_CHARACTERS = 20_000


class Channel:
    """Length-prefixed JSON messages over a Unix stream socket. Descriptors go down with them, never up.

    ``tells_pid``: with each message the kernel says which process sent it, in the numbers of this side (Linux); see ``pid``.
    """

    def __init__(self, sock: socket.socket, *, takes_fds: bool = False, tells_pid: bool = False) -> None:
        self.socket, self.takes_fds = sock, takes_fds
        self.message_limit = MESSAGE_LIMIT_BYTES
        self.pid: int | None = None
        """The sender of the first message, where that is asked for."""
        self.wants_pid = tells_pid and hasattr(socket, "SO_PASSCRED")
        if self.wants_pid:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
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
        """The next message and its descriptors. Raises ChannelClosed, or TimeoutError at ``deadline`` (monotonic seconds)."""
        fds: list[int] = []
        try:
            self._wait(deadline)
            if self.takes_fds:
                head, fds, _, _ = socket.recv_fds(self.socket, 4, MAX_FDS)
            elif self.wants_pid and self.pid is None:
                head = self._head_with_pid()
            else:  # what nobody takes, the kernel closes
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
        """Room for the sender's credentials alone: descriptors beside them are closed by the kernel."""
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


# What a child says may be anything. These take a value for what it should be, or for nothing.


def clean_line(value: object, limit: int = 600) -> str:
    """One line of text that any terminal and file can take."""
    return clean_text(value, 10 * limit).replace("\n", " ")[:limit]


def clean_text(value: object, limit: int) -> str:
    if not isinstance(value, str):
        return ""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in value[:limit])


def whole_number(value: object, most: int = 2**62) -> int | None:
    """A whole number in 0..most, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most else None


def finite_number(value: object) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
