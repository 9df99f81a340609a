"""Canaries for the probe of a tier: files, memory and sockets out of bounds for the probe, and the answers that a tier requires."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.execution.shared.probe_answers import OPEN

SECRET = "the labels"  # noqa: S105


EVERY_SANDBOX = (
    "read a file",
    "write a file",
    "change a file's rights",
    "parent's memory",
    "parent's environment",
    "signal the parent",
    "trace the parent",
    "tcp",
    "udp",
    "vsock",
    "netlink",
    "abstract socket",
    "io_uring",
    "keyring",
    "bpf",
    "user namespace",
    "capabilities",
    "new privileges",
)


MUST_BE_CLOSED = {"sandbox-a": (*EVERY_SANDBOX, "process list", "unlimited disk"), "sandbox-b": EVERY_SANDBOX}
"""Attempts that the probe must report as "closed", by tier. Otherwise the tier counts as unavailable."""


class Canary:
    """Resources that only the parent should reach: a file, a folder, the parent's memory and environment, listening sockets.

    They exist inside a ``with`` block. There ``targets`` holds their addresses by name, for `harness.execution.child.probe`.
    """

    def __enter__(self) -> Self:
        self.folder = tempfile.TemporaryDirectory(prefix="bakeoff-canary-")
        folder = Path(self.folder.name)
        folder.chmod(0o777)
        (folder / "labels").write_text(SECRET)
        (folder / "labels").chmod(0o666)
        self.tcp, self.udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        self.abstract = socket.socket(socket.AF_UNIX)
        for listener in (self.tcp, self.udp):
            listener.bind(("127.0.0.1", 0))
        self.abstract.bind(f"\0bakeoff-canary-{os.getpid()}-{id(self)}")
        self.tcp.listen()
        self.abstract.listen()
        self.targets = {
            "parent": os.getpid(),
            "folder": str(folder),
            "tcp": self.tcp.getsockname()[1],
            "udp": self.udp.getsockname()[1],
            "abstract": self.abstract.getsockname()[1:].decode(),
        }
        return self

    def verdict(self, reported: Mapping[str, str]) -> dict[str, str]:
        """Return the probe's answers (attempt: "open" or "closed"). An attempt is also "open" if the parent sees its effect."""
        answers = {str(hole): str(answer) for hole, answer in reported.items()}
        self.udp.setblocking(False)
        with suppress(BlockingIOError):
            self.udp.recv(1)
            answers["udp"] = OPEN
        if (Path(self.folder.name) / "written").exists():
            answers["write a file"] = OPEN
        if (Path(self.folder.name) / "labels").stat().st_mode & 0o777 != 0o666:
            answers["change a file's rights"] = OPEN
        return answers

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for listener in (self.tcp, self.udp, self.abstract):
            listener.close()
        self.folder.cleanup()
