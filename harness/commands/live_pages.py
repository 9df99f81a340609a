"""Pages that follow a run: who has them open sees entries come in, and what is being done now."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self

from harness.dispatch import Progress
from leaderboard import Result, Store
from leaderboard.site import Site
from leaderboard.tables.render import format_number

SECONDS = 1.0
"""What is being done now is written no more often than this."""
SHARE = 20
"""A build in mid-run is followed by this many times its own time without another one."""


class Pages(Progress):
    """Keeps a folder of pages up to date, and tells ``other`` what it is told.

    Pages that cannot be written are given up with a note: results matter more.
    """

    def __init__(self, other: Progress, store: Store, out: Path) -> None:
        self.other, self.site = other, Site(store, out)
        self.changed: set[str] = set()
        self.asked: set[str] = set()
        self.head = ""
        self.word: str | None = None
        self.next_build = self.next_word = 0.0
        self.given_up = False
        self.unsaid = ""
        self.lock = threading.Lock()  # seeds report from threads
        if not (out / "index.html").exists():
            self.build()  # there is something to open from the start

    def begin(self, task: str, submission: str, place: int, total: int) -> None:
        self.other.begin(task, submission, place, total)
        self.head = f"running {task} · {submission} ({place} of {total})"
        self.say("warming up")

    def trial(self, done: int, wanted: int, best: float | None) -> None:
        self.other.trial(done, wanted, best)
        self.say(f"search {done} of {wanted}" + ("" if best is None else f", best so far {format_number(best)}"))

    def seed(self, done: int, wanted: int) -> None:
        self.other.seed(done, wanted)
        self.say(f"final seeds {done} of {wanted}")

    def end(self, result: Result, *, known: bool) -> None:
        self.other.end(result, known=known)
        self.changed.add(result.task)
        self.asked.add(result.result_id)
        if not known and time.monotonic() >= self.next_build:
            self.build()

    def note(self, message: str) -> None:
        self.other.note(message)

    def say(self, what: str) -> None:
        with self.lock:
            self.word = f"{self.head}: {what}"
            if time.monotonic() >= self.next_word:
                self.next_word = time.monotonic() + SECONDS
                self.guarded(partial(self.site.write_status, self.word))

    def build(self) -> None:
        with self.lock:
            started = time.monotonic()
            self.guarded(partial(self.site.build, self.changed, self.asked, self.word))
            self.changed.clear()
            self.next_build = time.monotonic() + SHARE * (time.monotonic() - started)

    def guarded(self, work: Callable[[], None]) -> None:
        if self.given_up:
            return
        try:
            work()
        except OSError as error:
            self.given_up = True
            said = f"the pages in {self.site.out} cannot be written ({error.strerror}); the run goes on without them"
            if error.errno == errno.ENOSPC:
                self.unsaid = said  # where the disk is full the store says so, and the run does not go on
            else:
                self.other.note(said)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.word = None
        self.build()
        if self.unsaid and kind is None:
            self.other.note(self.unsaid)
