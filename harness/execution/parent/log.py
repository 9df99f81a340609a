"""Output of a submission's processes, of which the last part is kept."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

LOG_LIMIT_BYTES = 64 * 1024


class Log:
    """Buffer with the last `LOG_LIMIT_BYTES` bytes that a submission's processes have printed. Thread-safe."""

    def __init__(self) -> None:
        self.pieces: deque[bytes] = deque()
        self.kept = 0
        self.lock = threading.Lock()

    def add(self, piece: bytes) -> None:
        with self.lock:
            self.pieces.append(piece)
            self.kept += len(piece)
            while self.kept - len(self.pieces[0]) > LOG_LIMIT_BYTES:
                self.kept -= len(self.pieces.popleft())

    @property
    def text(self) -> str:
        with self.lock:
            return b"".join(self.pieces)[-LOG_LIMIT_BYTES:].decode(errors="replace")

    def drain(self, fd: int, limit: int | None, on_full: Callable[[], None]) -> threading.Thread:
        """Copy a pipe into this log in a new thread, and close it at its end. It calls ``on_full`` beyond ``limit`` bytes."""

        def read() -> None:
            total = 0
            while piece := os.read(fd, 1 << 16):
                before, total = total, total + len(piece)
                self.add(piece)
                if limit is not None and before <= limit < total:
                    on_full()
            os.close(fd)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread
