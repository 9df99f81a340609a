"""Progress of a run on standard error: a moving line while an entry runs, and a lasting line when it is done."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from harness.dispatch import Progress
from leaderboard import Result
from leaderboard.formatting import format_number
from leaderboard.text import VisibleStream, visible

CLEAR_LINE = "\r\033[K"


class Terminal(Progress):
    """Receiver of a run's progress that prints it as text. On a terminal a moving line is redrawn in place.

    Elsewhere only finished entries and notes are printed.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        out = out or sys.stderr
        self.out = out.raw if isinstance(out, VisibleStream) else out
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
            self._print(f"{self.head} … {what}", end="")

    def _staying(self, line: str) -> None:
        self._print(line, end="\n")

    def _print(self, line: str, end: str) -> None:
        print(f"{CLEAR_LINE if self.moves else ''}{visible(line, kept='')}{end}", end="", file=self.out, flush=True)
