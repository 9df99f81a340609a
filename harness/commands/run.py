"""`harness.run` and `bakeoff run`: evaluate submissions on tasks, one entry after another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from harness import datasets
from harness.commands.live_pages import LivePages
from harness.commands.options import RunOptions
from harness.contract import Limits, Task
from harness.dispatch import Progress
from harness.errors import BakeoffError, PluginError, UsageError
from harness.evaluation.entry import Entry, EntrySettings
from harness.evaluation.task_data import TaskData
from harness.execution.cluster.proxies import RemoteWorkerPool
from harness.execution.cluster.ray_cluster import Cluster
from harness.execution.parent import cgroups, isolation, slots
from harness.execution.parent.worker_pool import WorkerPool
from harness.plugins import registry
from harness.plugins.bundle import Bundle
from harness.plugins.source import Source
from harness.plugins.task_files import installed_task_paths
from leaderboard import Result, Rows, Store, rank
from leaderboard.result import Status
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
    """Evaluate submissions on tasks and return a row (dict) per entry, by task and rank; ``.frame`` has the rows in pandas.

    ``tasks`` are names, paths or Task objects. ``submissions`` are names or paths; none stands for all shipped and installed ones
    of the task's kind. ``trials`` is the number of configurations that a search tries, ``seeds`` the number of final fits.
    ``time_limit`` is in seconds, for one fit with its predictions. ``workers``, ``devices``, ``isolation_tier`` and ``limits`` are
    as in `RunOptions`. ``store`` is the URL of a PostgreSQL server that keeps the scores; None is SQLite in ``home``. Pictures and
    sources are kept in ``home`` in either case. Fits that are on record are not run again. ``cluster`` is the address of a Ray
    cluster whose machines run the trials. ``site`` is a folder for pages that follow the run; None is no pages.

    Raises UsageError or PluginError before anything has run if the request is wrong, and BakeoffError if the only task cannot be
    loaded. An entry that fails is a row with its status.
    """
    options = RunOptions(time_limit, workers, devices, isolation_tier, limits, cluster, Path(home), store)
    return run_with(tasks, submissions, options, trials=trials, seeds=seeds, site=site, progress=progress)


def run_with(
    tasks: str | Task | Sequence[str | Task],
    submissions: Sequence[str],
    options: RunOptions,
    *,
    trials: int,
    seeds: int,
    site: str | Path | None,
    progress: Progress | None,
) -> Rows:
    """Evaluate submissions on tasks under ``options`` and return the row of each entry; all else is as in `run`."""
    progress = progress or Progress()
    if trials < 0 or seeds < 1:
        raise UsageError(f"trials should be at least 0 and seeds at least 1; they are {trials} and {seeds}")
    references = [tasks] if isinstance(tasks, (str, Task)) else list(tasks)
    found = [task if isinstance(task, Task) else registry.find_task(task, progress.note).task for task in references]
    matches = match_entries(found, submissions, progress)
    with ExitStack() as stack:
        resources = open_resources(stack, options, progress)
        settings = EntrySettings(trials, seeds, options.time_limit, limits=options.limits, **resources)
        results = stack.enter_context(closing(Store(options.home, url=options.store)))
        if site is not None:
            progress = stack.enter_context(LivePages(progress, results, Path(site)))
        return evaluate(found, matches, settings, results, progress)


def evaluate(
    tasks: Sequence[Task],
    matches: Sequence[tuple[Task, list[Source]]],
    settings: EntrySettings,
    store: Store,
    progress: Progress,
) -> Rows:
    """Evaluate the submissions matched with each task by `match_entries`, and return the rows of the entries.

    A task that cannot be loaded fails its own entries alone; if it is the only task, raises BakeoffError.
    """
    ids: dict[str, set[str]] = defaultdict(set)
    unevaluated: list[Result] = []
    for task, sources in matches:
        try:
            for result in evaluate_task(task, sources, settings, store, progress):
                ids[task.name].add(result.result_id)
        except BakeoffError as error:
            if len(matches) == 1:
                raise
            progress.note(f"{error}; going on with the other tasks")
            unevaluated += [unevaluated_result(task, source, str(error)) for source in sources]
    rows = [
        row
        for name in dict.fromkeys(task.name for task in tasks)
        for row in rank(store.standing(name, ids[name]), ids[name])
        if row["result_id"] in ids[name]
    ]
    return Rows(rows + [unranked_row(result) for result in unevaluated])


def open_resources(stack: ExitStack, options: RunOptions, progress: Progress) -> dict[str, Any]:
    """Return slots, isolation and, with ``options.cluster``, the cluster of a run: keyword arguments of `EntrySettings`.

    ``stack`` closes the connection to the cluster. Raises UsageError for a device, isolation or cluster that is not available.
    """
    if options.cluster is None:
        return {
            "slots": slots.plan(options.devices, options.workers),
            "isolation": choose_isolation(options, progress),
        }
    cluster = stack.enter_context(
        Cluster(
            options.cluster,
            workers=options.workers,
            devices=options.devices,
            tier=options.isolation_tier,
            note=progress.note,
        )
    )
    return {"slots": cluster.slots, "isolation": cluster.isolation, "cluster": cluster}


def choose_isolation(options: RunOptions, progress: Progress) -> isolation.Isolation:
    """Return the isolation in which a run starts submissions, after the remains of killed harnesses on this machine are removed.

    Raises UsageError if the tier in ``options`` is not available.
    """
    isolation.sweep()
    cgroups.sweep()
    return isolation.choose(options.isolation_tier, progress.note, hidden=hidden_paths(options.home))


def refuse_rivals(bundles: Sequence[Bundle]) -> None:
    """Raise PluginError if a submission of a run would bring along the file of another one, unless both ship with Bakeoff."""
    owners = {one.paths[0]: one.name for one in bundles}
    for one in bundles:
        for path in one.paths[1:]:
            if path in owners and not path.is_relative_to(registry.shipped("baselines")):
                raise PluginError(
                    f"{one.name} would bring {path.name} along, which is the entry {owners[path]} of this run; enter one of them, "
                    "or put what both need into a module of its own"
                )


def hidden_paths(home: Path) -> list[Path]:
    """Return folders and files with labels or scores in them, which no sandbox may see even inside a library folder."""
    return [home, *datasets.data_folders(), *installed_task_paths()]


def unevaluated_result(task: Task, source: Source, error: str) -> Result:
    """Return a failed result for an entry whose task could not be loaded. It is shown but not recorded, as nothing was tried."""
    higher = task.ranking.higher_is_better
    return Result(
        "", "", task.name, task.version, task.kind.name, source.name, task.metric, higher, Status.FAILED, error
    )


def match_entries(
    tasks: Sequence[Task], references: Sequence[str], progress: Progress
) -> list[tuple[Task, list[Source]]]:
    """Return each task with the submissions that answer its kind.

    They are those in ``references`` (names or paths), or if it is empty all shipped and installed ones. If submissions are named
    and there are several tasks, a task without a match is left out with a note. Raises UsageError for any other task or submission
    without a match, and for two submissions with one name.
    """
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
    matches = []
    for task in tasks:
        group = [source for source in chosen if task.kind.name in source.kinds or (references and not source.kinds)]
        if not group and len(tasks) > 1 and references:
            progress.note(f"none of the submissions named answers {task.kind.name} tasks such as {task.name}; skipped")
            continue
        if not group:
            raise UsageError(f"no submission answers {task.kind.name} tasks such as {task.name}; name one with -s")
        matches.append((task, list({source.name: source for source in group}.values())))
    return matches


def evaluate_task(
    task: Task, sources: Sequence[Source], settings: EntrySettings, store: Store, progress: Progress
) -> Iterable[Result]:
    """Evaluate submissions one after another. The process of the next one warms up in the meantime."""
    task_data = TaskData(task, store.secret)
    try:
        entries = [Entry(task_data, source, settings, store) for source in sources]
        refuse_rivals([entry.bundle for entry in entries])
        pending = [entry for entry in entries if entry.recorded is None]
        with ExitStack() as stack:
            pools: list[WorkerPool | RemoteWorkerPool] = []
            for number, entry in enumerate(entries, start=1):
                progress.begin(task.name, entry.source.name, number, len(entries))
                if entry.recorded is None:
                    current = pending.index(entry)
                    for upcoming in pending[len(pools) : current + 2]:
                        pools.append(upcoming.start_workers())
                        stack.callback(pools[-1].close)
                    with pools[current]:
                        result = entry.evaluate(entry.run_context(pools[current], progress))
                else:
                    result = entry.recorded
                task_data.save_preview(store, progress.note)
                progress.end(result, known=entry.recorded is not None)
                yield result
    finally:
        task_data.close()
