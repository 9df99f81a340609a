"""Simulate 1,000 workers that search for 24 hours, from measured costs, to find the first bottleneck.

``python benchmarks/simulation.py [--workers 1000] [--hours 24]``. Measured on this machine: a suggestion of the sampler and its
result at 10,000 trials; a claim and a record, on SQLite and on a PostgreSQL server where there is one, alone and from eight
connections at once; the coordinator's share in one call to a node agent through Ray, and in receiving and scoring 10,000
predictions. Then events are simulated: each worker asks for a trial, reports ten times in a trial of log-normal length, returns its
predictions, and is lost once in 100 hours. A coordinator is one processor (Python's lock), its database one log with serial writes.
"""

from __future__ import annotations

import argparse
import heapq
import logging
import math
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sampler
import versus

from harness.execution.cluster.node_agent import Reply
from harness.execution.cluster.proxies import RemoteSlot
from harness.metrics import accuracy
from leaderboard import Store
from leaderboard.store.store import Fit

REPORTS = 10
SPREAD = 0.5
"""Standard deviation of the logarithm of a trial's length."""
LOST_EVERY = 100 * 3600.0
"""Mean seconds between two losses of one worker."""
TIMES = 200
CONNECTIONS = 8


@dataclass(frozen=True)
class Costs:
    """Costs in seconds. ``commit`` is the wait for one commit, ``apart`` the interval between commits of several connections."""

    ask: float
    call: float
    score: float
    commit: float
    apart: float


def timed(work: Callable[[int], object], times: int = TIMES, clock: Callable[[], float] = time.perf_counter) -> float:
    began = clock()
    for number in range(times):
        work(number)
    return (clock() - began) / times


def asking() -> float:
    trial = sampler.bakeoff()
    for number in range(10_000):
        trial(number, False)
    return timed(lambda number: trial(10_000 + number, True), 50)


def fit(number: int) -> Fit:
    losses = [1.0] * REPORTS
    return Fit("study", "search", number, {"a": 0.1, "b": 0.2}, 0, "complete", 0.5, {"losses": losses, "seconds": 1.0})


def committing(url: str | None) -> tuple[float, float]:
    """Mean seconds of a claim or a record: the time alone, and the interval between two when several connections write at once."""
    with tempfile.TemporaryDirectory() as folder:

        def write(connection: int) -> None:
            with closing(Store(Path(folder), url=url)) as store, closing(store.leases("study", "search")) as leases:
                for number in range(TIMES):
                    trial = connection * TIMES + number
                    leases.claim([trial])
                    store.add_fit(fit(trial), leases[trial])

        alone = timed(write, 1) / (2 * TIMES)
        threads = [threading.Thread(target=write, args=(number,)) for number in range(1, CONNECTIONS + 1)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return alone, (time.perf_counter() - began) / (2 * TIMES * CONNECTIONS)


class Answering:
    """Stub of a node agent: it returns replies of the same form at once."""

    def advance(self, trial: int, answer: object) -> Reply:
        return Reply((False, 0.5))

    def answer(self, rows: int) -> Reply:
        return Reply((np.full((rows, 10), 0.1, np.float32), 0.1))


def calling() -> tuple[float, float]:
    """Processor seconds of the coordinator in a report, and in receiving and scoring 10,000 predictions."""
    import ray

    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        place = RemoteSlot("slot", ray, ray.remote(Answering).remote())
        labels = np.zeros(10_000, np.int64)
        place.call("advance", 0, None)

        def score(number: int) -> None:
            answer, _ = place.call("answer", len(labels))
            accuracy(answer, labels)

        score(0)
        return (
            timed(lambda number: place.call("advance", 0, False), clock=time.process_time),
            timed(score, clock=time.process_time),
        )
    finally:
        ray.shutdown()


@dataclass
class Server:
    """Server of the simulation: it handles one request at a time, first come, first served."""

    free: float = 0.0
    busy: float = 0.0

    def serve(self, now: float, seconds: float) -> float:
        """Queue a request that takes ``seconds``; return the time at which it is done."""
        self.free = max(self.free, now) + seconds
        self.busy += seconds
        return self.free


def simulate(costs: Costs, *, workers: int, coordinators: int, length: float, hours: float) -> dict[str, float]:
    """Simulate the events of each worker: ask and claim; a third of the reports, three times; predict and record."""
    rng = np.random.default_rng(0)
    minds, database = [Server() for _ in range(coordinators)], Server()
    end = hours * 3600
    middle = math.log(length) - SPREAD**2 / 2
    trials = lost = 0
    worked = 0.0
    events = [(float(rng.random()), worker, 0, 0.0) for worker in range(workers)]
    heapq.heapify(events)
    pool = iter(())
    while events:
        now, worker, step, seconds = heapq.heappop(events)
        if now > end:
            break
        mind = minds[worker % coordinators]
        if step == 0:
            at = mind.serve(now, costs.ask)
            at = max(database.serve(at, costs.apart), at + costs.commit)
            seconds = next(pool, 0.0)
            if not seconds:
                pool = iter(rng.lognormal(middle, SPREAD, 100_000).tolist())
                seconds = next(pool)
            if rng.random() < seconds / LOST_EVERY:
                lost += 1
                heapq.heappush(events, (at + seconds * rng.random(), worker, 0, 0.0))
            else:
                heapq.heappush(events, (at + seconds / 3, worker, 1, seconds))
        elif step < 3:
            heapq.heappush(events, (mind.serve(now, costs.call * REPORTS / 3) + seconds / 3, worker, step + 1, seconds))
        else:
            at = mind.serve(now, costs.call * (REPORTS / 3 + 2) + costs.score)
            at = max(database.serve(at, costs.apart), at + costs.commit)
            mind.free = max(mind.free, at)  # the coordinator records under its lock
            trials, worked = trials + 1, worked + seconds
            heapq.heappush(events, (at, worker, 0, 0.0))
    return {
        "trials": trials,
        "lost": lost,
        "a second": trials / end,
        "workers": worked / (workers * end),
        "coordinators": statistics.fmean(mind.busy for mind in minds) / end,
        "database": database.busy / end,
    }


def servers() -> dict[str, str | None]:
    """Databases to measure: SQLite, and PostgreSQL where the server of the tests can start."""
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    found: dict[str, str | None] = {"SQLite": None}
    try:
        from servers import server

        found["PostgreSQL"] = server().database()
    except BaseException as error:  # pytest's Skipped is no Exception
        print(f"no PostgreSQL here: {error}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--hours", type=float, default=24)
    options = parser.parse_args()
    print(f"## {options.workers:,} workers for {options.hours:g} hours, simulated\n\n{versus.machine()}\n")
    ask = asking()
    call, score = calling()
    print(
        f"Measured: {ask * 1e3:.2f} ms a question to the sampler and its answer at 10,000 trials; {call * 1e3:.2f} ms of"
    )
    print(f"the coordinator's processor a call through Ray, {score * 1e3:.2f} ms to take and score 10,000 answers.")
    known = {}
    for name, url in servers().items():
        commit, apart = committing(url)
        known[name] = Costs(ask, call, score, commit, apart)
        print(f"{name}: {commit * 1e3:.2f} ms a commit, {apart * 1e3:.2f} ms apart from {CONNECTIONS} connections.")
    print(
        "\n| trials of | coordinators, database | trials | a second | workers at work | coordinator busy | database busy |\n"
        "|---|---|---|---|---|---|---|"
    )
    several = "PostgreSQL" if "PostgreSQL" in known else "SQLite"
    for length in (600, 60, 10):
        for coordinators, name in ((1, "SQLite"), (1, several), (8, several)):
            found = simulate(
                known[name], workers=options.workers, coordinators=coordinators, length=length, hours=options.hours
            )
            cells = (
                f"{length} s",
                f"{coordinators}, {name}",
                f"{found['trials']:,} and {found['lost']:,} lost",
                f"{found['a second']:.1f}",
                *(f"{found[key]:.1%}" for key in ("workers", "coordinators", "database")),
            )
            print(f"| {' | '.join(cells)} |", flush=True)
    for name, costs in known.items():
        mind = costs.ask + costs.call * (REPORTS + 2) + costs.score + costs.commit
        print(
            f"\nWith {name}, one coordinator is saturated at {1 / mind:.0f} trials a second (trials of "
            f"{options.workers * mind:.0f} s on {options.workers:,} workers), the database at {1 / (2 * costs.apart):.0f}."
        )


if __name__ == "__main__":
    main()
