"""Measure what complexity pays: seconds to a target validation score, with and without each scheme of the search.

``python benchmarks/complexity.py [--only SCHEME ...] [--quick] [--seeds 5] [--keep FILE]``. A scheme is switched off here alone, by
the `PATCHES`; the product has no options for this. Everything else stays as it is: without low-fidelity trials a search still has
rungs.

First the searches without the scheme run all of their trials. The target is the median of their best scores, so that more than half
of the seeds reach it. Then the searches with the scheme run until they reach it, with up to `MORE_TRIALS` times as many trials: a
scheme may spend the time that it saves. Seconds count from the start of the command, imports included, to the first trial as good
as the target. Each search is a command of its own with a fresh home and one thread a process. With ``--keep`` an interrupted
run continues; a file belongs to one version of the code.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any


class AlwaysFalse:
    """Attribute of a class that is False whatever is assigned to it."""

    def __get__(self, owner: object, kind: type) -> bool:
        return False

    def __set__(self, owner: object, value: object) -> None: ...


@dataclass(frozen=True)
class Patch:
    """Replacement of ``target``, written ``module:Name`` or ``module:Class.name``, before the command is called.

    ``off`` makes the replacement of the object that is there. A name that other modules of Bakeoff have imported is replaced there
    too.
    """

    target: str
    off: Callable[[Any], Any]

    def apply(self) -> None:
        """Replace the target. Raises SystemExit if it does not exist."""
        module_name, _, path = self.target.partition(":")
        try:
            owner: Any = importlib.import_module(module_name)
            *parents, name = path.split(".")
            for parent in parents:
                owner = getattr(owner, parent)
            before = vars(owner)[name]
        except (ImportError, AttributeError, KeyError) as error:
            raise SystemExit(f"there is no {self.target} ({error}); mend PATCHES in {Path(__file__).name}") from error
        after = self.off(before)
        setattr(owner, name, after)
        for other_name, module in list(sys.modules.items()):
            if not parents and other_name.startswith("harness") and vars(module).get(name) is before:
                setattr(module, name, after)


ENVIRONMENT = Patch(
    "harness.execution.parent.isolation:INHERITED_VARIABLES", lambda names: (*names, "BENCHMARK_CAPTURE")
)
"""Lets the child see whether it is to capture steps: `models/networks.py` switches them off there. Applied on both sides."""

PATCHES = {
    # A submission that says that it has no budget gets no low-fidelity trials, but rungs.
    "low-fidelity": (Patch("harness.plugins.description:Description.budget", lambda _: AlwaysFalse()),),
    # No number of reports is a rung, so no trial is pruned.
    "rungs": (Patch("harness.search.asha:Rungs.is_rung", lambda _: lambda rungs, step: False),),
    # No training split is large enough for subsets.
    "subsets": (Patch("harness.search.subsets:MIN_SUBSET_ROWS", lambda _: math.inf),),
    # There are never enough observations for a Gaussian process: all suggestions are the Parzen estimator's.
    "gaussian-process": (Patch("harness.search.sampler:GP_MIN_TRIALS", lambda _: math.inf),),
    # BENCHMARK_CAPTURE=off in the child; see ENVIRONMENT.
    "captured-step": (),
}
"""Patches that switch a scheme off. All that this file knows of the inside of the search is here and in ENVIRONMENT."""


@dataclass(frozen=True)
class Case:
    """A search: the task, the submission, and the number of trials without the scheme."""

    task: str
    submission: str
    trials: int


HERE = Path(__file__).parent
NETWORKS, ESTIMATORS = HERE / "models" / "networks.py", HERE / "models" / "estimators.py"
SHIFTED, MACKEY_GLASS = (f"{HERE / 'larger_tasks.py'}:{name}" for name in ("SHIFTED", "MACKEY_GLASS"))
CASES = {
    "low-fidelity": (Case("digits", f"{NETWORKS}:Network", 32), Case("digit-rows", f"{NETWORKS}:Recurrent", 32)),
    "rungs": (Case("digits", f"{ESTIMATORS}:Reporting", 16), Case(MACKEY_GLASS, f"{ESTIMATORS}:Reporting", 20)),
    # A fit on a ninth of the rows has to take more than 0.2 seconds.
    "subsets": (Case(SHIFTED, f"{ESTIMATORS}:Silent", 12), Case(MACKEY_GLASS, f"{ESTIMATORS}:Silent", 12)),
    # A full fit has to take more than a second. From 48 low-fidelity trials on, more of them change no other setting.
    "gaussian-process": (Case("digits", f"{ESTIMATORS}:Reporting", 20), Case(MACKEY_GLASS, f"{NETWORKS}:Network", 48)),
    # A block has 64 trials.
    "captured-step": (Case("digits", f"{NETWORKS}:FewShapes", 64), Case("digit-rows", f"{NETWORKS}:FewCells", 64)),
}
SIDES = ("with", "without")
MORE_TRIALS = 4
TIMEOUT = 40.0
"""Seconds after which a search with the scheme starts no more trials."""
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Job:
    """One search of one side. ``target`` is None where the search is to run to its end."""

    scheme: str
    case: int
    seed: int
    side: str
    target: float | None = None

    @property
    def arguments(self) -> tuple[str, ...]:
        target = () if self.target is None else (f"--target={self.target!r}",)
        return "--only", self.scheme, "--case", str(self.case), "--seed", str(self.seed), *target


# One search, in its own process ----------------------------------------------------------------------------------------------


class Reached(Exception):
    """Raised to end a search that has reached the target."""


def search(job: Job, started: float) -> dict[str, Any]:
    """Run one search in this process; return its improvements as ``[seconds, best]``, its best score and its uses of the scheme.

    ``started`` is the time of `time.monotonic` at which the command was started.
    """
    import optuna

    from harness.commands.tune import tune
    from harness.dispatch import Progress
    from harness.plugins import registry
    from leaderboard import Store

    case, suggestions, gp_sampler = CASES[job.scheme][job.case], 0, optuna.samplers.GPSampler

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal suggestions
        suggestions += 1
        return gp_sampler(*arguments, **named)

    optuna.samplers.GPSampler = counted  # type: ignore[misc,assignment]
    os.environ["BENCHMARK_CAPTURE"] = "off" if (job.scheme, job.side) == ("captured-step", "without") else "on"
    ENVIRONMENT.apply()
    for patch in PATCHES[job.scheme] if job.side == "without" else ():
        patch.apply()
    sign = registry.find_task(case.task).task.ranking.loss_sign
    course: list[tuple[float, float]] = []

    class Course(Progress):
        """Progress display that notes improvements, and ends the search at the target."""

        def trial(self, done: int, wanted: int, best: float | None) -> None:
            if best is not None and (not course or sign * best < sign * course[-1][1]):
                course.append((time.monotonic() - started, best))
            if reaches(course, sign, job.target) is not None:
                raise Reached

    with tempfile.TemporaryDirectory() as home:
        trials = case.trials * (1 if job.side == "without" else MORE_TRIALS)
        try:
            tune(
                case.task,
                case.submission,
                trials=trials,
                timeout=None if job.side == "without" else TIMEOUT,
                seed=job.seed,
                home=home,
                progress=Course(),
            )
        except Exception:
            if reaches(course, sign, job.target) is None:
                raise
        with closing(Store(Path(home))) as store:
            rows = store.database.read("SELECT status, facts FROM fits")
            fits = [(status, json.loads(facts)) for status, facts in rows]
    # Kept as the leaderboard stores them, so that these counts outlive changes of the code.
    used = {
        "low-fidelity": sum(bool(facts.get("drafts")) for _, facts in fits),
        "rungs": sum(status == "pruned" and bool(facts.get("losses")) for status, facts in fits),
        "subsets": sum(bool(facts.get("parts")) for _, facts in fits),
        "gaussian-process": suggestions,
        "captured-step": sum(bool(facts.get("together")) for _, facts in fits),  # vectorized trials
    }
    assert course, "a search that ends has a best score"
    return {"course": course, "best": course[-1][1], "trials": len(fits), "used": used[job.scheme]}


def reaches(course: list[tuple[float, float]], sign: float, target: float | None) -> float | None:
    """Return the seconds at which the best score first was as good as the target; None if it never was."""
    if target is None:
        return None
    return next((seconds for seconds, best in course if sign * best <= sign * target + TOLERANCE), None)


# All of them ----------------------------------------------------------------------------------------------------------------


class Runner:
    """Runs jobs that are not in the file ``keep`` yet, and says how long the others will take."""

    def __init__(self, total: int, keep: Path | None) -> None:
        self.total, self.keep, self.done = total, keep, 0
        self.started, self.fresh = time.monotonic(), 0
        lines = keep.read_text().splitlines() if keep is not None and keep.exists() else []
        self.known = {json.dumps(line["job"]): line["row"] for line in map(json.loads, lines)}

    def run(self, job: Job) -> dict[str, Any]:
        """Return the result of a job, from the file or from a new process."""
        import versus

        key = json.dumps(asdict(job))
        self.done += 1
        if key not in self.known:
            label = f"[{self.done}/{self.total}] {job.scheme}, case {job.case}, seed {job.seed}, "
            row = versus.one(__file__, job.side, *job.arguments, f"--started={time.monotonic()!r}", label=label)
            self.fresh += 1
            left = (time.monotonic() - self.started) / self.fresh * (self.total - self.done)
            print(f"  {row['used']} uses; about {left / 60:.0f} min left", file=sys.stderr, flush=True)
            self.known[key] = row
            if self.keep is not None:
                with self.keep.open("a") as file:
                    file.write(json.dumps({"job": asdict(job), "row": row}) + "\n")
        return dict(self.known[key])


@cache
def task_of(reference: str) -> tuple[str, float]:
    """Return a task's name, and the sign that makes a loss of its metric."""
    from harness.plugins import registry

    task = registry.find_task(reference).task
    return task.name, task.ranking.loss_sign


def median_seconds(seconds: list[float | None]) -> tuple[float, str]:
    """Return the median, infinite where most never reached the target, and a text with the range and the number that did."""
    reached = [one for one in seconds if one is not None]
    median = statistics.median(math.inf if one is None else one for one in seconds)
    text = "not reached" if math.isinf(median) else f"{median:.1f} ({min(reached):.1f}–{max(reached):.1f})"
    return median, f"{text}, {len(reached)} of {len(seconds)}"


def compare(scheme: str, number: int, seeds: int, run: Callable[[Job], dict[str, Any]]) -> str:
    """Run both sides of a case; return a row of the table."""
    name, sign = task_of(CASES[scheme][number].task)
    without = [run(Job(scheme, number, seed, "without")) for seed in range(seeds)]
    target = statistics.median_low if sign > 0 else statistics.median_high
    goal = float(target(row["best"] for row in without))
    having = [run(Job(scheme, number, seed, "with", goal)) for seed in range(seeds)]
    # The captured step counts vectorized trials, which both sides may have; there the model checks the steps. Without it a search
    # may find that its vectorized fit is slower than single ones, and fit them alone.
    captured = scheme == "captured-step"
    if captured != any(row["used"] for row in without):
        raise SystemExit(
            f"{scheme} was used though it was switched off, or nothing was vectorized; mend PATCHES or CASES"
        )
    slow, slow_text = median_seconds([reaches(row["course"], sign, goal) for row in without])
    fast, fast_text = median_seconds([reaches(row["course"], sign, goal) for row in having])
    ratio = f"{slow / fast:.2f}" if math.isfinite(slow) and math.isfinite(fast) else "–"
    used = statistics.median(row["used"] for row in having)
    return f"| {scheme} | {name} | {fast_text} | {slow_text} | {ratio} | {goal:.5g} | {used:g} |"


def rows(schemes: list[str], seeds: int, run: Callable[[Job], dict[str, Any]]) -> Iterator[str]:
    """Yield the table line by line."""
    yield "| scheme | task | seconds with | seconds without | ratio | score reached | uses a search |"
    yield "|---|---|---|---|---|---|---|"
    for scheme in schemes:
        for number in range(len(CASES[scheme])):
            yield compare(scheme, number, seeds, run)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PATCHES, default=list(PATCHES), metavar="SCHEME")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--keep", type=Path, help="a file of results: those in it are not measured again")
    parser.add_argument("--side", choices=SIDES, help="run this one alone, here")
    parser.add_argument("--case", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", type=float)
    parser.add_argument("--started", type=float, default=time.monotonic())
    options = parser.parse_args()
    if options.side:
        job = Job(options.only[0], options.case, options.seed, options.side, options.target)
        print(json.dumps(search(job, options.started)))
        return
    import versus

    seeds = 1 if options.quick else options.seeds
    total = sum(len(CASES[scheme]) for scheme in options.only) * seeds * len(SIDES)
    print(f"## Seconds to a score, with and without each scheme of the search\n\n{versus.machine()}", end="")
    print(f", {datetime.now(UTC):%Y-%m-%d}\n")
    for line in rows(options.only, seeds, Runner(total, options.keep).run):
        print(line, flush=True)
    print(f"\nMedian and range over {seeds} seeds; of a search that never reached the score the time is infinite.")


if __name__ == "__main__":
    main()
