"""The work of one entry on its slots: fits of a search and final fits alike are jobs, and are run again where a slot is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TypeVar

from harness.errors import SlotCrowded, SlotLost, TrialFailed
from harness.execution.cluster.proxies import RemoteWorkerPool
from harness.execution.parent.fit_data import SharedInputs
from harness.execution.parent.slots import Slots
from harness.execution.parent.workers import WorkerPool
from harness.scoring import Scorer
from leaderboard import Result, Store

MAX_LOST_SLOTS = 3
"""Slots that a job may lose: perhaps it is the job that ends them."""

POLL_SECONDS = 2.0
"""Seconds between looks at what other commands have recorded of the same search."""


class Progress:
    """What is told about a run as it goes. This one keeps silent; the command line's speaks."""

    def begin(self, task: str, submission: str, place: int, total: int) -> None: ...
    def trial(self, done: int, wanted: int, best: float | None) -> None: ...
    def seed(self, done: int, wanted: int) -> None: ...
    def end(self, result: Result, *, known: bool) -> None: ...
    def note(self, message: str) -> None: ...


@dataclass(frozen=True)
class RunContext:
    """Where the trials of one entry run: its processes, its data, who scores and records them, and on how many slots.

    ``study`` is the key that its fits are recorded under, ``time_limit`` the seconds for one fit with its predictions.
    Fits that failed in an earlier ``attempt`` are done again.
    """

    workers: WorkerPool | RemoteWorkerPool
    data: SharedInputs
    scorer: Scorer
    store: Store
    study_key: str
    attempt: int
    time_limit: float
    slots: Slots
    progress: Progress


J = TypeVar("J")


def run_parallel(jobs: Sequence[J], run: Callable[[J, str], None], bench: RunContext) -> None:
    """Run jobs, as many at once as there are slots, each with its device. Any error ends the crew and comes out here.

    A job whose slot is lost is run again on another. Raises TrialFailed for one that has lost `MOST_LOST` of them.
    """

    def one(job: J) -> None:
        for left in reversed(range(MAX_LOST_SLOTS)):
            device = bench.slots.acquire()
            try:
                return run(job, device)
            except SlotLost as error:
                bench.progress.note(f"{error}; what ran on it is run again")
                if not left:
                    raise TrialFailed("failed", f"{error}, the {MAX_LOST_SLOTS}th that it ran on") from error
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
    """Raise SlotCrowded where a job ran out of a GPU's memory that it shared."""
    if error.status == "out-of-memory" and slots.shrink(device):
        raise SlotCrowded(f"the memory of {device} ran out, with several trials on it") from error
