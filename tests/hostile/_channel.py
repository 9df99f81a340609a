"""The channel as an attacker sees it: sockets among its descriptors, and messages framed by a length."""

import json
import os
import stat


def sockets():
    """The descriptors that are sockets."""
    found = []
    for fd in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                found.append(fd)
        except OSError:
            pass
    return found


def frame(message):
    """A message, or raw bytes, behind its length."""
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return len(body).to_bytes(4, "big") + body


def memory_files():
    """The descriptors that are files in memory: arrays that came, and the one that the answer goes to."""
    found = []
    for fd in range(3, 256):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:"):
                found.append(fd)
        except OSError:
            pass
    return found
