"""`run` takes every task and submission asked for from start to finish; `tune` searches one submission's hyperparameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from harness import datasets
from harness.commands.live_pages import Pages
from harness.contract import LONGEST, Limits, Task
from harness.dispatch import Progress
from harness.errors import BakeoffError, UsageError
from harness.evaluation.entry import Entry, EntrySettings
from harness.evaluation.task_data import TaskData
from harness.execution.cluster.proxies import RemoteWorkerPool
from harness.execution.cluster.ray_cluster import Cluster
from harness.execution.parent import cgroups, isolation, slots
from harness.execution.parent.workers import WorkerPool
from harness.plugins import registry
from harness.plugins.source import Source
from leaderboard import Result, Rows, Store, rank
from leaderboard.statistics.ranking import unranked_row

DEFAULT_TRIALS, DEFAULT_SEEDS = 10, 3


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
    limits: Limits = Limits(),  # noqa: B008, frozen
    cluster: str | None = None,
    home: str | Path = ".bakeoff",
    store: str | None = None,
    site: str | Path | None = None,
    progress: Progress | None = None,
) -> Rows:
    """Evaluate submissions on tasks and return the rows of their boards, in order of tasks and ranks: dicts, with a pandas frame.

    ``tasks`` are names, paths or Task objects; ``submissions`` names or paths, none for every baseline that fits the task's
    kind. ``store`` is the URL of a PostgreSQL server that keeps the scores, None for SQLite in ``home``, which keeps pictures and
    sources either way. What is recorded there is not done again. Raises UsageError or PluginError before anything has run where the
    request is wrong; an entry that fails is a row with its status. ``cluster`` is the address of a Ray cluster whose machines run
    the trials. ``site`` is a folder whose pages follow the run, None for none.
    """
    progress = progress or Progress()
    if trials < 0 or seeds < 1:
        raise UsageError(f"trials should be at least 0 and seeds at least 1; they are {trials} and {seeds}")
    check_limit(time_limit)
    asked = [tasks] if isinstance(tasks, (str, Task)) else list(tasks)
    found = [task if isinstance(task, Task) else registry.find_task(task, progress.note).task for task in asked]
    entries = plan(found, submissions, progress)
    with ExitStack() as held:
        work = hands(held, devices, workers, isolation_tier, cluster, home, progress)
        settings = EntrySettings(trials, seeds, time_limit, limits=limits, **work)
        kept = held.enter_context(closing(Store(Path(home), url=store)))
        if site is not None:
            progress = held.enter_context(Pages(progress, kept, Path(site)))
        return evaluate(found, entries, settings, kept, progress)


def evaluate(
    found: Sequence[Task],
    entries: Sequence[tuple[Task, list[Source]]],
    settings: EntrySettings,
    kept: Store,
    progress: Progress,
) -> Rows:
    """The rows of what `plan` has found."""
    ids: dict[str, set[str]] = defaultdict(set)
    unmade: list[Result] = []
    for task, group in entries:
        try:
            for result in evaluate_task(task, group, settings, kept, progress):
                ids[task.name].add(result.result_id)
        except BakeoffError as error:
            if len(entries) == 1:
                raise
            progress.note(f"{error}; going on with the other tasks")
            unmade += [not_evaluated(task, source, str(error)) for source in group]
    rows = [
        row
        for task in dict.fromkeys(task.name for task in found)
        for row in rank(kept.standing(task, ids[task]), ids[task])
        if row["result_id"] in ids[task]
    ]
    return Rows(rows + [unranked_row(result) for result in unmade])


def hands(
    held: ExitStack,
    devices: str,
    workers: int | None,
    isolation_tier: str,
    address: str | None,
    home: str | Path,
    progress: Progress,
) -> dict[str, Any]:
    """Who does the work, as `Settings` has it: slots and their tier, here or on a cluster, whose connection ``held`` keeps."""
    if address is None:
        return {"slots": slots.plan(devices, workers), "isolation": tier(isolation_tier, home, progress)}
    cluster = held.enter_context(
        Cluster(address, workers=workers, devices=devices, tier=isolation_tier, note=progress.note)
    )
    return {"slots": cluster.slots, "isolation": cluster.isolation, "cluster": cluster}


def tier(wanted: str, home: str | Path, progress: Progress) -> isolation.Isolation:
    """The tier of a run. What harnesses that were killed have left on this machine is cleared away first."""
    isolation.sweep()
    cgroups.sweep()
    return isolation.choose(wanted, progress.note, hidden=[Path(home), *datasets.folders()])


def check_limit(seconds: float | None) -> None:
    if seconds is not None and not 0 < seconds <= LONGEST:
        raise UsageError(f"a time limit should be more than 0 seconds and at most {LONGEST:g}; it is {seconds:g}")


def not_evaluated(task: Task, source: Source, error: str) -> Result:
    """The row of an entry whose task could not be had. It is shown and not recorded: nothing was tried."""
    higher = task.ranking.higher_is_better
    return Result("", "", task.name, task.version, task.kind.name, source.name, task.metric, higher, "failed", error)


def plan(tasks: Sequence[Task], references: Sequence[str], progress: Progress) -> list[tuple[Task, list[Source]]]:
    """Which submissions meet which tasks. Raises UsageError for one that fits none of them."""
    if references:
        chosen = [registry.find_submission(reference, progress.note) for reference in references]
        for source in chosen:
            twins = {str(other.path) for other in chosen if other.name == source.name}
            if len(twins) > 1:
                raise UsageError(f"two submissions are called {source.name}: {' and '.join(sorted(twins))}; rename one")
            if source.kinds and not any(task.kind.name in source.kinds for task in tasks):
                raise UsageError(
                    f"{source.name} answers {' and '.join(source.kinds)} tasks; {tasks[0].name} is {tasks[0].kind.name}"
                )
    else:
        chosen = list(registry.submissions(progress.note).values())
    entries = []
    for task in tasks:
        group = [source for source in chosen if task.kind.name in source.kinds or (references and not source.kinds)]
        if not group and len(tasks) > 1 and references:
            progress.note(f"none of the submissions named answers {task.kind.name} tasks such as {task.name}; skipped")
            continue
        if not group:
            raise UsageError(f"no submission answers {task.kind.name} tasks such as {task.name}; name one with -s")
        entries.append((task, list({source.name: source for source in group}.values())))
    return entries


def evaluate_task(
    task: Task, sources: Sequence[Source], settings: EntrySettings, store: Store, progress: Progress
) -> Iterable[Result]:
    """Evaluate submissions one after another; the next one's process warms up while one is at work."""
    ground = TaskData(task)
    try:
        waiting = [Entry(ground, source, settings, store) for source in sources]
        unknown = [entry for entry in waiting if entry.recorded is None]
        with ExitStack() as started:
            crews: list[WorkerPool | RemoteWorkerPool] = []
            for place, entry in enumerate(waiting, start=1):
                progress.begin(task.name, entry.source.name, place, len(waiting))
                if entry.recorded is None:
                    now = unknown.index(entry)
                    for ahead in unknown[len(crews) : now + 2]:
                        crews.append(ahead.start_workers())
                        started.callback(crews[-1].close)
                    with crews[now]:
                        result = entry.evaluate(entry.run_context(crews[now], progress))
                else:
                    result = entry.recorded
                ground.save_preview(store, progress.note)
                progress.end(result, known=entry.recorded is not None)
                yield result
    finally:
        ground.close()
