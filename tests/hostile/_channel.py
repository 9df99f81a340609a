"""The channel seen by an attacker: sockets among its descriptors, and messages framed by a length."""

import json
import os
import stat


def sockets():
    """List the descriptors that are sockets."""
    found = []
    for fd in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                found.append(fd)
        except OSError:
            pass
    return found


def frame(message):
    """Frame a message, or raw bytes, by its length."""
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return len(body).to_bytes(4, "big") + body


def memory_files():
    """List the descriptors of memory files: received arrays, and the file for the answer."""
    found = []
    for fd in range(3, 256):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:"):
                found.append(fd)
        except OSError:
            pass
    return found
