"""Searches under a fixed clock, to compare what a search does before and after a change of its code.

    python tests/search/searches_by_clock.py --out A.json [--only NAME...] [--twice]
    python tests/search/searches_by_clock.py --compare A.json B.json
    python tests/search/searches_by_clock.py --renew

The first runs scenarios and writes their trials, results and messages; the second lists the differences between two such files; the
third rewrites the record of the tests, `searches.json`. The same code writes the same file, since the clock of a search shows only
the seconds that its submission names: a fit calls ``spend(0.5)``, the seconds travel with its next message, and nothing else moves
the clock. Each entry of ``SCENARIOS`` in `scenarios.py` says what its search is for.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

if __name__ == "__main__":  # before numpy and torch are loaded: the number of threads changes the last digits of sums
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

from scenarios import RECORDED, SCENARIOS, Scenario

import harness.search
from harness.commands.tune import tune
from harness.dispatch import Progress
from harness.errors import SlotLost, TrialFailed
from harness.execution.shared.channel import Channel
from harness.search import coordinator, sampler
from leaderboard import Store
from leaderboard.store.store import Fit

RECORD = Path(__file__).with_name("searches.json")
"""Trials of the scenarios in `RECORDED`, compared by `test_searches_by_clock.py`."""
START_SECONDS = 1000.0
"""Time at which the clock of each command starts."""
FEW_OBSERVATIONS: dict[str, Any] = {"MAX_OBSERVATIONS": 150, "KEPT_BEST": 15, "KEPT_OTHERS": 60}
"""A tenth of the sampler's bounds, so that a search of 160 trials goes beyond them."""

# The clock -------------------------------------------------------------------------------------------------------------------


class Clock:
    """Replacement for the module ``time``. It moves when it is told to."""

    def __init__(self) -> None:
        self.now, self.lock = START_SECONDS, threading.Lock()
        self.moves = 0
        """Number of messages of this command that moved the clock."""
        self.losses: tuple[int, ...] = ()
        """Numbers of the messages, counted by ``moves``, at which the slot is lost."""

    def start(self, losses: tuple[int, ...]) -> None:
        self.now, self.moves, self.losses = START_SECONDS, 0, losses

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        time.sleep(0.01)

    def advance(self, seconds: float) -> None:
        with self.lock:
            self.now += seconds


class InlineExecutor:
    """Replacement for `ThreadPoolExecutor`. It runs each job at once, so that there is one order of events."""

    def __enter__(self) -> InlineExecutor:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, work: Any, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*args))
        except BaseException as error:
            future.set_exception(error)
        return future


CLOCK = Clock()


def replace_clock() -> None:
    """Replace the clock and the executor in all modules of the search, and move the clock by the messages of submissions."""
    replacements = {
        id(time): CLOCK,
        id(time.monotonic): CLOCK.monotonic,
        id(time.sleep): CLOCK.sleep,
        id(ThreadPoolExecutor): InlineExecutor,
    }
    replaced: Counter[int] = Counter()
    for info in pkgutil.iter_modules(harness.search.__path__):
        module = importlib.import_module(f"harness.search.{info.name}")
        for name, value in list(vars(module).items()):
            if id(value) in replacements:
                setattr(module, name, replacements[id(value)])
                replaced[id(value)] += 1
    assert replaced[id(time)] + replaced[id(time.monotonic)], (
        "no module of harness.search reads the clock: mend replace_clock"
    )
    assert replaced[id(ThreadPoolExecutor)], "no module of harness.search starts threads: mend replace_clock"
    receive = Channel.receive

    def receive_and_move(self: Channel, deadline: float | None = None) -> tuple[dict[str, Any], list[int]]:
        message, fds = receive(self, deadline)
        if seconds := message.pop("spent", 0.0):
            CLOCK.advance(seconds)
            CLOCK.moves += 1
            if CLOCK.moves in CLOCK.losses:
                raise SlotLost("the machine is gone")
        return message, fds

    Channel.receive = receive_and_move  # type: ignore[method-assign]


# Running them ----------------------------------------------------------------------------------------------------------------


class RecordedProgress(Progress):
    """Progress that keeps its messages, and acts as another command of the scenario after some of them."""

    def __init__(self, scenario: Scenario, home: Path) -> None:
        self.scenario, self.home = scenario, home
        self.messages: list[list[Any]] = []

    def begin(self, task: str, submission: str, place: int, total: int) -> None:
        self.keep(task, submission, place, total)

    def trial(self, done: int, wanted: int, best: float | None) -> None:
        self.keep(done, wanted, best)

    def note(self, message: str) -> None:
        self.keep(message)
        if "waiting for" in message:
            leased = [number for numbers in self.scenario.leased.values() for number in numbers]
            self.record(leased[::2])
            self.lease(leased[1::2], expires=0)

    def keep(self, *words: Any) -> None:
        self.messages.append(list(words))
        self.record(self.scenario.recorded.get(len(self.messages), ()))
        self.lease(self.scenario.leased.get(len(self.messages), ()), expires=9e9)

    def lease(self, numbers: tuple[int, ...] | list[int], expires: float) -> None:
        """Lease trials as a command on another machine would."""
        for store, study in self.open_study() if numbers else ():
            for number in numbers:
                store.database.write(
                    "INSERT OR REPLACE INTO leases (study, phase, number, holder, token, expires) VALUES (?, ?, ?, ?, ?, ?)",
                    (study, "search", number, ":1:1:other", 1, expires),
                )

    def record(self, numbers: tuple[int, ...] | list[int]) -> None:
        """Record trials as another command would."""
        for store, study in self.open_study() if numbers else ():
            for number in numbers:
                params = {"x": number % 50 / 50, "rate": 0.001, "depth": 1 + number % 5, "how": "a"}
                value = 0.1 + (number % 7) / 10
                facts = {"seconds": 2.5, "losses": [value + 0.5, value]}
                store.add_fit(Fit(study, "search", number, params, 0, "complete", value, facts))

    def open_study(self) -> Iterator[tuple[Store, str]]:
        """Yield the store with the key of its one study, once."""
        with closing(Store(self.home, create=False)) as store:
            ((study,),) = store.database.read("SELECT DISTINCT study FROM leases")
            yield store, str(study)


def recorded_trials(home: Path) -> list[list[dict[str, Any]]]:
    """Return the trials of each study in the order of their records."""
    columns = ("number", "attempt", "status", "value", "params", "facts")
    with closing(Store(home, create=False)) as store:
        rows = store.database.read(
            f"SELECT study, {', '.join(columns)} FROM fits WHERE phase = 'search' ORDER BY rowid"
        )
    studies: dict[str, list[dict[str, Any]]] = {}
    for study, *values in rows:
        trial = dict(zip(columns, values))
        trial |= {name: json.loads(trial[name]) for name in ("params", "facts")}
        studies.setdefault(str(study), []).append(trial)
    return list(studies.values())


def run(scenario: Scenario) -> dict[str, Any]:
    """Run a scenario; return its trials by study, and the result and the messages of each command."""
    folder = Path(tempfile.mkdtemp(prefix="searches-"))
    results: list[dict[str, Any]] = []
    messages = []
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        if scenario.few_observations:
            for module in (sampler, coordinator):
                stack.enter_context(patch.multiple(module, **FEW_OBSERVATIONS))
        submission = folder / "submission.py"
        submission.write_text(scenario.source())
        for one in scenario.commands:
            CLOCK.start(scenario.losses)
            progress = RecordedProgress(scenario, folder / "home")
            task = one.task or scenario.task
            try:
                result = tune(
                    task.write(folder) if task else "digits",
                    str(submission),
                    trials=one.trials,
                    workers=scenario.workers,
                    devices="cpu",
                    isolation_tier="process",
                    warm_start=one.warm_start.write(folder) if one.warm_start else None,
                    home=folder / "home",
                    progress=progress,
                    **one.options,
                )
                results.append(asdict(result))
            except TrialFailed as error:
                results.append({"status": error.status, "error": str(error)})
            messages.append(
                [words for words in progress.messages if scenario.workers == 1 or isinstance(words[0], str)]
            )
        studies = recorded_trials(folder / "home")
        if scenario.workers > 1:  # trials on several slots end in any order
            studies = [sorted(trials, key=lambda trial: int(trial["number"])) for trials in studies]
        return {"studies": studies, "results": results, "progress": messages}


def one_line(found: dict[str, Any]) -> str:
    """Return the number of trials of a scenario by status, and of the trials with a low-fidelity or a vectorized fit."""
    trials = [trial for trials in found["studies"] for trial in trials]
    counts = Counter(trial["status"] for trial in trials)
    for fact, name in (("drafts", "at a low fidelity"), ("parts", "on subsets"), ("together", "vectorized")):
        counts[name] = sum(fact in trial["facts"] for trial in trials)
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def trial_lines(found: dict[str, Any]) -> list[str]:
    """Return a line for each trial in the order of their records: number, status, hyperparameters with 6 significant digits."""
    trials = [trial for trials in found["studies"] for trial in trials]
    return [
        " ".join(
            f"{value:.6g}" if isinstance(value, float) else str(value)
            for value in (
                trial["number"],
                trial["status"],
                *(trial["params"][name] for name in sorted(trial["params"])),
            )
        )
        for trial in trials
    ]


# Comparing them --------------------------------------------------------------------------------------------------------------


def differences(a: Any, b: Any, path: str = "") -> Iterator[str]:
    """Yield a line for each difference between two values from JSON."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted(a.keys() | b.keys()):
            if name in a and name in b:
                yield from differences(a[name], b[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}: only in the {'first' if name in a else 'second'}"
    elif isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            yield f"{path}: {len(a)} and {len(b)} items"
        for number, (one, other) in enumerate(zip(a, b)):
            yield from differences(one, other, f"{path}[{number}]")
    elif a != b:
        yield f"{path}: {a!r} and {b!r}"


def print_differences(name: str, a: Any, b: Any, most: int = 4) -> bool:
    """Print the first differences of a scenario; return whether there are any."""
    found = list(differences(a, b))
    if found:
        print(f"{name}: {len(found)} differences")
        print("".join(f"    {line[:300]}\n" for line in found[:most]), end="")
    return bool(found)


def compare(first: str, second: str) -> int:
    a, b = (json.loads(Path(path).read_text()) for path in (first, second))
    only_in_one = sorted(a.keys() ^ b.keys())
    if only_in_one:
        print(f"only in one of them: {', '.join(only_in_one)}")
    different = sum(print_differences(name, a[name], b[name]) for name in a if name in b)
    print(f"{len(a.keys() & b.keys())} searches in both, {different or 'none'} of which differ")
    return 1 if different or only_in_one else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="FILE", help="file for the trials and messages of the searches, JSON")
    parser.add_argument(
        "--only", nargs="+", default=list(SCENARIOS), choices=SCENARIOS, metavar="NAME", help="scenarios to run"
    )
    parser.add_argument("--twice", action="store_true", help="run each scenario twice; exit code 1 if the two differ")
    parser.add_argument("--compare", nargs=2, metavar="FILE", help="two files to compare")
    parser.add_argument("--renew", action="store_true", help=f"run the scenarios on record, and rewrite {RECORD.name}")
    options = parser.parse_args()
    if options.compare:
        return compare(*options.compare)
    replace_clock()
    found, different = {}, 0
    for name in RECORDED if options.renew else options.only:
        started = time.monotonic()
        found[name] = run(SCENARIOS[name])
        print(f"{time.monotonic() - started:5.1f} s  {name}: {one_line(found[name])}", flush=True)
        if options.twice:
            again = run(SCENARIOS[name])
            different += print_differences(name, *(json.loads(json.dumps(each)) for each in (found[name], again)))
        if options.out:
            Path(options.out).write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    if options.renew:
        lines = {name: trial_lines(each) for name, each in found.items()}
        RECORD.write_text(json.dumps(lines, indent=1) + "\n")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
