"""Pages that follow a run: an open page shows new entries and the current step."""

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
from leaderboard.formatting import format_number
from leaderboard.site import Site

STATUS_SECONDS = 1.0
"""Least time in seconds between two writes of the current step."""
PAUSE_AFTER_BUILD = 20
"""Least pause after a build of the pages during a run, in multiples of the time that the build took."""


class LivePages(Progress):
    """Receiver of a run's progress that keeps the pages in the folder ``out`` up to date and passes every report on to ``other``.

    Pages that cannot be written are given up with a note: results matter more.
    """

    def __init__(self, other: Progress, store: Store, out: Path) -> None:
        self.other, self.site = other, Site(store, out)
        self.changed_tasks: set[str] = set()
        self.result_ids: set[str] = set()
        self.head = ""
        self.status: str | None = None
        self.next_build = self.next_status = 0.0
        self.given_up = False
        self.late_note = ""
        self.lock = threading.Lock()  # seeds report from threads
        if not (out / "index.html").exists():
            self.build()  # there is something to open from the start

    def begin(self, task: str, submission: str, place: int, total: int) -> None:
        self.other.begin(task, submission, place, total)
        self.head = f"running {task} · {submission} ({place} of {total})"
        self.set_status("warming up")

    def trial(self, done: int, wanted: int, best: float | None) -> None:
        self.other.trial(done, wanted, best)
        self.set_status(f"search {done} of {wanted}" + ("" if best is None else f", best so far {format_number(best)}"))

    def seed(self, done: int, wanted: int) -> None:
        self.other.seed(done, wanted)
        self.set_status(f"final seeds {done} of {wanted}")

    def end(self, result: Result, *, known: bool) -> None:
        self.other.end(result, known=known)
        self.changed_tasks.add(result.task)
        self.result_ids.add(result.result_id)
        if not known and time.monotonic() >= self.next_build:
            self.build()

    def note(self, message: str) -> None:
        self.other.note(message)

    def set_status(self, step: str) -> None:
        with self.lock:
            self.status = f"{self.head}: {step}"
            if time.monotonic() >= self.next_status:
                self.next_status = time.monotonic() + STATUS_SECONDS
                self.write(partial(self.site.write_status, self.status))

    def build(self) -> None:
        with self.lock:
            started = time.monotonic()
            self.write(partial(self.site.build, self.changed_tasks, self.result_ids, self.status))
            self.changed_tasks.clear()
            self.next_build = time.monotonic() + PAUSE_AFTER_BUILD * (time.monotonic() - started)

    def write(self, work: Callable[[], None]) -> None:
        if self.given_up:
            return
        try:
            work()
        except OSError as error:
            self.given_up = True
            message = f"the pages in {self.site.out} cannot be written ({error.strerror}); the run goes on without them"
            if error.errno == errno.ENOSPC:
                self.late_note = message  # where the disk is full the store says so, and the run does not go on
            else:
                self.other.note(message)
        except Exception as error:  # a name or value that nobody thought of; one entry ends no run
            self.given_up = True
            self.other.note(
                f"the pages in {self.site.out} cannot be made ({type(error).__name__}: {error}); the run goes on without them"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.status = None
        self.build()
        if self.late_note and kind is None:
            self.other.note(self.late_note)
