"""One entry from start to finish: search, final seeds, score, record. `run` does it for every task and submission asked for."""

from __future__ import annotations

import platform
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from harness import plugins
from harness.contract import BakeoffError, Data, PluginError, Task, UsageError
from harness.execution import isolation, slots
from harness.execution.isolation import Isolation
from harness.execution.pool import Description, FitData, Trial, TrialFailed, Worker
from harness.execution.slots import Slots
from harness.kinds import pictures
from harness.plugins import Source
from harness.scoring import Scorer, generator
from harness.search import Found, in_parallel, same, search
from leaderboard import Result, Store, rank
from leaderboard.ranking import interval
from leaderboard.result import content_key
from leaderboard.store import Fit, now

DEFAULT_TRIALS, DEFAULT_SEEDS = 10, 3
LIBRARIES = ("numpy", "scikit-learn", "scikit-learn-intelex", "torch", "keras", "optuna", "statsmodels")


class Progress:
    """What is told about a run as it goes. This one keeps silent; the command line's speaks."""

    def begin(self, task: str, submission: str, place: int, total: int) -> None: ...
    def trial(self, done: int, wanted: int, best: float | None) -> None: ...
    def seed(self, done: int, wanted: int) -> None: ...
    def end(self, result: Result, *, known: bool) -> None: ...
    def note(self, message: str) -> None: ...


@dataclass(frozen=True)
class Settings:
    """How entries are evaluated. ``time_limit`` is in seconds for one fit with its predictions; None is the task's own."""

    trials: int
    seeds: int
    time_limit: float | None
    slots: Slots
    isolation: Isolation


class Ground:
    """A task made ready once for all its entries: data checked, hashed and shared, hidden labels kept here."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.data = load(task)
        self.sha256 = self.data.sha256()
        self.scorer = Scorer(task, self.data, self.sha256)
        self.references = {name: float(value) for name, value in task.kind.references(self.data).items()}
        self.fit_data = FitData(self.data, task.kind)

    def study_key(self, source_sha256: str, object_name: str | None, time_limit: float) -> str:
        return content_key(self.task.name, self.task.version, self.sha256, source_sha256, object_name, time_limit)

    def close(self) -> None:
        self.fit_data.close()


def load(task: Task) -> Data:
    """A task's data, checked against its kind. Raises BakeoffError with the task's name in front."""
    try:
        data = task.load()
        task.kind.check(data)
    except BakeoffError as error:
        raise type(error)(f"task {task.name}: {error}") from error
    except Exception as error:
        raise BakeoffError(f"task {task.name} could not be loaded: {type(error).__name__}: {error}") from error
    return data


def run(
    tasks: str | Task | Sequence[str | Task],
    submissions: Sequence[str] = (),
    *,
    trials: int = DEFAULT_TRIALS,
    seeds: int = DEFAULT_SEEDS,
    time_limit: float | None = None,
    workers: int | None = None,
    devices: str = "auto",
    isolation_tier: str = "auto",
    home: str | Path = ".bakeoff",
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Evaluate submissions on tasks and return the rows of their boards, in order of tasks and ranks.

    ``tasks`` are names, paths or Task objects; ``submissions`` names or paths, none for every baseline that fits the task's
    kind. What ``home`` already has is not done again. Raises UsageError or PluginError before anything has run where the
    request is wrong; an entry that fails is a row with its status.
    """
    progress = progress or Progress()
    if trials < 0 or seeds < 1:
        raise UsageError(f"trials should be at least 0 and seeds at least 1; they are {trials} and {seeds}")
    if time_limit is not None and time_limit <= 0:
        raise UsageError(f"the time limit should be more than 0 seconds; it is {time_limit:g}")
    settings = Settings(trials, seeds, time_limit, slots.plan(devices, workers), isolation.choose(isolation_tier))
    asked = [tasks] if isinstance(tasks, (str, Task)) else list(tasks)
    found = [task if isinstance(task, Task) else plugins.find_task(task, progress.note).task for task in asked]
    entries = plan(found, submissions, progress)
    ids: dict[str, set[str]] = defaultdict(set)
    store = Store(Path(home))
    try:
        for task, group in entries:
            for result in evaluate_task(task, group, settings, store, progress):
                ids[task.name].add(result.result_id)
        return [
            row
            for task in dict.fromkeys(task.name for task in found)
            for row in rank(store.results(task))
            if row["result_id"] in ids[task]
        ]
    finally:
        store.close()


def plan(tasks: Sequence[Task], references: Sequence[str], progress: Progress) -> list[tuple[Task, list[Source]]]:
    """Which submissions meet which tasks. Raises UsageError for one that fits none of them."""
    if references:
        chosen = [plugins.find_submission(reference, progress.note) for reference in references]
        for source in chosen:
            twins = {str(other.path) for other in chosen if other.name == source.name}
            if len(twins) > 1:
                raise UsageError(f"two submissions are called {source.name}: {' and '.join(sorted(twins))}; rename one")
            if source.kinds and not any(task.kind.name in source.kinds for task in tasks):
                raise UsageError(
                    f"{source.name} answers {' and '.join(source.kinds)} tasks; {tasks[0].name} is {tasks[0].kind.name}"
                )
    else:
        chosen = list(plugins.submissions(progress.note).values())
    entries = []
    for task in tasks:
        group = [source for source in chosen if task.kind.name in source.kinds or (references and not source.kinds)]
        if not group:
            raise UsageError(f"no submission answers {task.kind.name} tasks such as {task.name}; name one with -s")
        entries.append((task, list({source.name: source for source in group}.values())))
    return entries


def evaluate_task(
    task: Task, sources: Sequence[Source], settings: Settings, store: Store, progress: Progress
) -> Iterable[Result]:
    """Evaluate submissions one after another; the next one's process warms up while one is at work."""
    ground = Ground(task)
    try:
        waiting = [Entry(ground, source, settings, store) for source in sources]
        with ExitStack() as started:
            for place, entry in enumerate(waiting):
                progress.begin(task.name, entry.source.name, place + 1, len(waiting))
                if entry.known is None:
                    for ahead in waiting[place : place + 2]:
                        if ahead.known is None and ahead.worker is None:
                            ahead.worker = Worker(ahead.source, settings.isolation, threads=settings.slots.threads)
                            started.callback(ahead.worker.close)
                result = entry.known or entry.evaluate(progress)
                progress.end(result, known=entry.known is not None)
                if entry.worker:
                    entry.worker.close()
                yield result
    finally:
        ground.close()


class Entry:
    """One submission on one task, under given settings."""

    def __init__(self, ground: Ground, source: Source, settings: Settings, store: Store) -> None:
        self.ground, self.source, self.settings, self.store = ground, source, settings, store
        self.task = ground.task
        self.time_limit = settings.time_limit or self.task.time_limit
        self.sha256 = source.sha256
        self.study = ground.study_key(self.sha256, source.object, self.time_limit)
        self.key = content_key(self.study, settings.trials, settings.seeds, settings.slots.device)
        before = [result for result, _ in store.results(entry=self.key)]
        self.known = next((result for result in before if result.complete), None)
        self.attempt = len(before)
        self.worker: Worker | None = None
        self.started = now()

    def blank(self) -> Result:
        task = self.task
        return Result(
            result_id=content_key(self.key, self.attempt)[:12],
            entry=self.key,
            task=task.name,
            task_version=task.version,
            kind=task.kind.name,
            submission=self.source.name,
            metric=task.metric,
            higher_is_better=task.ranking.higher_is_better,
            status="failed",
            references=self.ground.references,
            device=self.settings.slots.device,
            isolation=self.settings.isolation.name,
            source_sha256=self.sha256,
            data_sha256=self.ground.sha256,
            versions=versions(),
            commit=commit(self.source.path.parent),
        )

    @property
    def artefacts(self) -> Path:
        """Where pictures, source and log of this entry are kept."""
        return self.store.path.parent / "artefacts" / self.blank().result_id

    def evaluate(self, progress: Progress) -> Result:
        """Search, fit again over seeds, record. Every failure of the submission ends as a row, none as an exception."""
        assert self.worker is not None, "started by evaluate_task"
        result, replicates = self.blank(), np.zeros(0, dtype=np.float32)
        try:
            description = self.worker.ready()
            if self.task.kind.name not in description.kinds:
                raise PluginError(
                    f"{self.source.name} answers {' and '.join(description.kinds)} tasks; {self.task.name} is {self.task.kind.name}"
                )
            found = self.search(description, progress)
            result = replace(
                result,
                params=found.params,
                valid_score=found.valid,
                n_trials=found.n_trials,
                n_pruned=found.n_pruned,
                n_failed=found.n_failed,
                search_seconds=found.seconds,
            )
            finals = self.finals(found.params, progress)
            result, replicates = self.complete(result, finals)
        except PluginError as error:
            result = replace(result, error=str(error))
        except TrialFailed as error:
            result = replace(result, status=error.status, error=str(error))
        result = replace(result, created_at=now())
        self.keep("source.py", self.source.path.read_bytes())
        self.keep("log.txt", self.worker.log.encode())
        self.store.add(result, replicates)  # type: ignore[arg-type]  # a float32 array is a sequence of floats
        return result

    def search(
        self, description: Description, progress: Progress, *, trials: int | None = None, timeout: float | None = None
    ) -> Found:
        """The search of this entry; without a space or a budget, the first guess as it is."""
        from harness.search import first_guess

        assert self.worker is not None, "started by the caller"
        trials = self.settings.trials if trials is None else trials
        if not description.space or trials == 0:
            return Found(first_guess(description), None, 0, 0, 0, 0.0)
        return search(
            self.worker,
            description,
            self.ground.fit_data,
            self.ground.scorer,
            self.store,
            self.study,
            n_trials=trials,
            time_limit=self.time_limit,
            slots=self.settings.slots,
            attempt=self.attempt,
            timeout=timeout,
            watcher=progress,
        )

    def finals(self, params: dict[str, Any], progress: Progress) -> list[Fit]:
        """One fit a seed with these parameters, scored on the hidden test; those on record are not done again."""
        worker, wanted = self.worker, self.settings.seeds
        assert worker is not None, "started by the caller"
        done = {
            fit.number: fit
            for fit in self.store.fits(self.study, "final")
            if fit.number < wanted and fit.status == "complete" and same(fit.params, params)
        }
        failures: list[TrialFailed] = []
        progress.seed(len(done), wanted)

        def one(seed: int, device: str) -> None:
            if failures:
                return
            try:
                with worker.trial(
                    params,
                    self.ground.fit_data,
                    seed=seed + 1,
                    device=device,
                    time_limit=self.time_limit,
                    snapshots=seed == 0,
                ) as trial:
                    fit = self.score(trial, seed, params)
                fit.facts["peak_memory"] = trial.usage.peak_memory
            except TrialFailed as error:
                if not worker.closed:
                    failures.append(error)
                return
            self.store.add_fit(fit)
            done[seed] = fit
            progress.seed(len(done), wanted)

        in_parallel([seed for seed in range(wanted) if seed not in done], one, self.settings.slots, worker)
        if failures:
            raise failures[0]
        return [done[seed] for seed in range(wanted)]

    def score(self, trial: Trial, seed: int, params: dict[str, Any]) -> Fit:
        """Fit, ask about validation and hidden test, score; keep the pictures of the first seed."""
        ground, kind = self.ground, self.task.kind
        fitted = trial.fit()
        seen, read = kind.question(ground.data.valid.x, ground.scorer.rng())
        valid = ground.scorer.valid(ground.scorer.read(read, trial.predict(seen, kind)[0]))
        asked, read = kind.question(ground.data.test.x, ground.scorer.rng())
        answer, seconds = trial.predict(asked, kind)
        answer = ground.scorer.read(read, answer)
        scored = ground.scorer.test(answer)
        if seed == 0:
            picture = kind.draw(answer, ground.data.test)
            if picture:
                self.keep("picture.png", picture)
            for number, sheet in enumerate(fitted.snapshots if fitted.snapshots is not None else (), start=1):
                self.keep(f"step-{number:02d}.png", pictures.grid(sheet))
        return Fit(
            self.study,
            "final",
            seed,
            params,
            self.attempt,
            "complete",
            scored.score,
            {
                "public": scored.public,
                "private": scored.private,
                "valid": valid,
                "metrics": scored.metrics,
                "fit_seconds": fitted.seconds,
                "predict_seconds": seconds,
                "n_parameters": fitted.n_parameters,
                "summary": fitted.summary,
            },
            list(scored.replicates),
            list(scored.losses),
        )

    def complete(self, result: Result, finals: Sequence[Fit]) -> tuple[Result, Any]:
        """The row of a finished entry: means over seeds, and an interval over samples and seeds together."""
        facts = [fit.facts for fit in finals]
        scores = [float(fit.value) for fit in finals if fit.value is not None]
        by_seed = np.array([fit.replicates for fit in finals])
        chosen = generator("seeds", self.key).integers(0, len(finals), size=by_seed.shape)
        replicates = np.take_along_axis(by_seed, chosen, axis=0).mean(axis=0)
        low, high = interval(replicates.tolist())
        valid = statistics.fmean(fact["valid"] for fact in facts) if result.valid_score is None else result.valid_score
        return replace(
            result,
            status="complete",
            score=statistics.fmean(scores),
            score_std=statistics.stdev(scores) if len(scores) > 1 else 0.0,
            ci_low=low,
            ci_high=high,
            seeds=scores,
            public_score=statistics.fmean(fact["public"] for fact in facts),
            private_score=statistics.fmean(fact["private"] for fact in facts),
            valid_score=valid,
            metrics={
                name: statistics.fmean(fact["metrics"][name] for fact in facts)
                for name in facts[0]["metrics"]
                if all(name in fact["metrics"] for fact in facts)
            },
            fit_seconds=statistics.fmean(fact["fit_seconds"] for fact in facts),
            predict_seconds=statistics.fmean(fact["predict_seconds"] for fact in facts),
            peak_memory_mb=max(fact["peak_memory"] for fact in facts) / 1e6,
            n_parameters=facts[0]["n_parameters"],
            summary=facts[0]["summary"],
        ), replicates

    def keep(self, name: str, content: bytes) -> None:
        self.artefacts.mkdir(parents=True, exist_ok=True)
        (self.artefacts / name).write_bytes(content)


def tune(
    task: str,
    submission: str,
    *,
    trials: int = 50,
    timeout: float | None = None,
    time_limit: float | None = None,
    workers: int | None = None,
    devices: str = "auto",
    isolation_tier: str = "auto",
    home: str | Path = ".bakeoff",
    progress: Progress | None = None,
) -> Found:
    """Search only: trials up to number ``trials``, going on where the store says that the same search stopped."""
    progress = progress or Progress()
    if trials < 1:
        raise UsageError(f"trials should be at least 1; it is {trials}")
    settings = Settings(trials, 1, time_limit, slots.plan(devices, workers), isolation.choose(isolation_tier))
    found, source = plugins.find_task(task, progress.note).task, plugins.find_submission(submission, progress.note)
    plan([found], [submission], progress)
    store = Store(Path(home))
    ground = Ground(found)
    try:
        entry = Entry(ground, source, settings, store)
        progress.begin(found.name, source.name, 1, 1)
        with Worker(source, settings.isolation, threads=settings.slots.threads) as entry.worker:
            return entry.search(entry.worker.ready(), progress, timeout=timeout)
    finally:
        ground.close()
        store.close()


@cache
def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that scores may depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def commit(folder: Path) -> str | None:
    """The git commit that a folder is at, None outside a repository."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
