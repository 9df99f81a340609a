"""Progress of a run on standard error: a moving line while an entry runs, and a lasting line when it is done."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from harness.dispatch import Progress
from leaderboard import Result
from leaderboard.formatting import format_number


class Terminal(Progress):
    """Receiver of a run's progress that prints it as text. On a terminal a moving line is redrawn in place.

    Elsewhere only finished entries and notes are printed.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = out or sys.stderr
        self.moves = self.out.isatty()
        self.head = ""
        self.started = 0.0

    def begin(self, task: str, submission: str, place: int, total: int) -> None:
        self.started = time.monotonic()
        self.head = f"[{place}/{total}] {task} · {submission}"
        self._moving("warming up")

    def trial(self, done: int, wanted: int, best: float | None) -> None:
        self._moving(f"search {done}/{wanted}" + ("" if best is None else f", best so far {format_number(best)}"))

    def seed(self, done: int, wanted: int) -> None:
        self._moving(f"final seeds {done}/{wanted}")

    def end(self, result: Result, *, known: bool) -> None:
        took = "known already" if known else f"{time.monotonic() - self.started:.1f} s"
        if result.complete:
            interval = f"[{format_number(result.ci_low)}, {format_number(result.ci_high)}]"
            said = f"{result.metric} {format_number(result.score)}  {interval}  {took}"
        else:
            said = f"{result.status.upper()}: {result.error}"
        self._staying(f"{self.head:<44} {said}")

    def note(self, message: str) -> None:
        self._staying(f"note: {message}")

    def _moving(self, what: str) -> None:
        if self.moves:
            print(f"\r\033[K{self.head} … {what}", end="", file=self.out, flush=True)

    def _staying(self, line: str) -> None:
        print(f"\r\033[K{line}" if self.moves else line, file=self.out, flush=True)
