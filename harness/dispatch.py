"""Dispatch of one entry's jobs over its slots. A job is a fit of a search or a final fit; it is run again if its slot is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TypeVar

from harness.errors import SlotCrowded, SlotLost, TrialFailed
from harness.execution.cluster.proxies import RemoteWorkerPool
from harness.execution.parent.fit_data import SharedInputs
from harness.execution.parent.slots import Slots
from harness.execution.parent.worker_pool import WorkerPool
from harness.scoring import ValidationScorer
from leaderboard import Result, Store
from leaderboard.result import Status

MAX_LOST_SLOTS = 3
"""Number of slots that one job may lose before it fails. The job itself may be what ends its slots."""

POLL_SECONDS = 2.0
"""Seconds between two reads of the fits that other commands have recorded for the same entry."""


class Progress:
    """Receiver of the progress of a run. It is called at start and end of an entry, after trials and final seeds, and with notes.

    This class is silent; subclasses print or write pages.
    """

    def begin(self, task: str, submission: str, place: int, total: int) -> None: ...
    def trial(self, done: int, wanted: int, best: float | None) -> None: ...
    def seed(self, done: int, wanted: int) -> None: ...
    def end(self, result: Result, *, known: bool) -> None: ...
    def note(self, message: str) -> None: ...


@dataclass(frozen=True)
class RunContext:
    """Processes, data, scorer, store and slots that the trials of one entry use.

    ``study_key`` is the key under which the store keeps the entry's fits, ``time_limit`` the seconds for one fit with its
    predictions. Fits that failed in an earlier ``attempt`` are run again.
    """

    workers: WorkerPool | RemoteWorkerPool
    data: SharedInputs
    scorer: ValidationScorer
    store: Store
    study_key: str
    attempt: int
    time_limit: float
    slots: Slots
    progress: Progress


J = TypeVar("J")


def run_parallel(jobs: Sequence[J], run: Callable[[J, str], None], bench: RunContext) -> None:
    """Call ``run(job, device)`` for each job, as many at once as ``bench`` has slots, and return when all jobs are done.

    The first error of a job closes all workers and is raised. A job that loses its slot is run again on another slot. Raises
    TrialFailed for a job that has lost `MAX_LOST_SLOTS` slots.
    """

    def one(job: J) -> None:
        for left in reversed(range(MAX_LOST_SLOTS)):
            device = bench.slots.acquire()
            try:
                return run(job, device)
            except SlotLost as error:
                bench.progress.note(f"{error}; what ran on it is run again")
                if not left:
                    raise TrialFailed(Status.FAILED, f"{error}, the {MAX_LOST_SLOTS}th that it ran on") from error
            finally:
                bench.slots.release(device)

    with ThreadPoolExecutor(bench.slots.at_once) as threads:
        futures = [threads.submit(one, job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:  # Ctrl-C too: nothing may wait for a fit that nobody wants any more
            for future in futures:
                future.cancel()
            bench.workers.close()
            raise


def raise_if_crowded(error: TrialFailed, device: str, slots: Slots) -> None:
    """Raise SlotCrowded if a job failed for lack of memory on a GPU that it shared; then also halve the slots of the GPU."""
    if error.status == Status.OUT_OF_MEMORY and slots.shrink(device):
        raise SlotCrowded(f"the memory of {device} ran out, with several trials on it") from error
