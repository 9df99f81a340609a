"""`bakeoff replay`: fit a recorded result again from its kept source, parameters and seeds, with today's libraries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from harness.commands.run import hidden_paths
from harness.contract import Task
from harness.dispatch import Progress
from harness.errors import TrialFailed, UsageError
from harness.evaluation.entry import Entry, EntrySettings
from harness.evaluation.provenance import versions
from harness.evaluation.task_data import TaskData
from harness.execution.parent import isolation, slots
from harness.plugins import registry
from harness.plugins.source import read_submission
from leaderboard import Result, Store

TOLERANCE = 1e-6
"""Relative difference up to which two scores count as the same; it is absolute for scores below 1."""


def find_task_of(result: Result, reference: str | None, progress: Progress) -> Task:
    """Return the task of a result, found by ``reference`` (a name or path) or else by its name.

    Raises UsageError if it is not found, or is now another task or version.
    """
    try:
        found = registry.find_task(reference or result.task, progress.note).task
    except UsageError as error:
        raise UsageError(f"{error}; --task PATH names the file of a task that was given by its path") from error
    if (found.name, found.version) != (result.task, result.task_version):
        raise UsageError(
            f"{result.result_id} is a result of {result.task}, version {result.task_version}; {reference or result.task} is now "
            f"{found.name}, version {found.version}"
        )
    return found


@dataclass(frozen=True)
class Replay:
    """Recorded result beside the ``scores`` that the same source gives now, one per seed.

    ``changes`` names the libraries that have other versions now, and the task's data if they have changed.
    """

    recorded: Result
    scores: list[float]
    changes: list[str]

    @property
    def same(self) -> bool:
        return all(
            abs(now - then) <= TOLERANCE * max(1.0, abs(then))
            for now, then in zip(self.scores, self.recorded.seeds, strict=True)
        )

    def __str__(self) -> str:
        pairs = "\n".join(
            f"  seed {seed}: recorded {then:.6g}, now {now:.6g}"
            for seed, (now, then) in enumerate(zip(self.scores, self.recorded.seeds, strict=True))
        )
        said = "the same scores" if self.same else "other scores"
        why = f"\nwhat differs from then: {'; '.join(self.changes)}" if self.changes else ""
        return f"{self.recorded.submission} on {self.recorded.task} ({self.recorded.result_id}): {said}\n{pairs}{why}"


def replay(
    reference: str,
    *,
    task: str | None = None,
    home: str | Path = ".bakeoff",
    store: str | None = None,
    progress: Progress | None = None,
) -> Replay:
    """Fit a recorded result again, from its kept source, parameters and seeds, and return its scores beside the recorded ones.

    ``reference`` is the result's id, or the beginning of it. ``task`` is the path of its task, if the name of the task does not
    find it. Raises UsageError for a result that cannot be replayed or fitted again, StoreError for an id that is not in the store.
    """
    progress = progress or Progress()
    recorded = Store(Path(home), url=store, create=False)
    try:
        result, secret = recorded.find(reference), recorded.secret
    finally:
        recorded.close()
    kept = Path(home) / "artefacts" / result.result_id
    file, _, object_name = result.source.partition(":")
    # what was kept before a result named its file lies there as source.py
    source = kept / "source" / file if file else kept / "source.py"
    if not result.complete or not source.is_file():
        raise UsageError(
            f"result {result.result_id} ({result.status}) has no kept source to replay; replay a complete result of a plug-in"
        )
    task_data = TaskData(find_task_of(result, task, progress), secret)
    settings = EntrySettings(
        0,
        len(result.seeds),
        None,
        slots.plan("auto" if result.device == "cpu" else result.device),
        isolation.choose(
            "process" if result.isolation == "process" else "auto", progress.note, hidden=hidden_paths(Path(home))
        ),
    )
    scratch_store = Store(kept / "replay")  # a store of its own, so that nothing recorded is taken for the answer
    try:
        found = replace(read_submission(source, object_name or None), name=result.submission)
        entry = Entry(task_data, found, settings, scratch_store)
        entry.study += f"-{len(scratch_store.fits(entry.study, 'final'))}"
        with entry.start_workers() as workers:
            workers.ready()
            fits = entry.final_fits(entry.run_context(workers, progress), result.params).run()
    except TrialFailed as error:
        raise UsageError(f"{result.submission} could not be fitted again: {error}") from error
    finally:
        scratch_store.close()
        task_data.close()
    changes = [
        f"{name} {result.versions.get(name, 'none')} -> {found_now}"
        for name, found_now in versions().items()
        if result.versions.get(name) != found_now
    ]
    if task_data.sha256 != result.data_sha256:
        changes.append("the task's data")
    if task_data.secret_id != result.secret_id:
        changes.append(
            "the order in which rows are asked, which came from the secret of another store: put that store's secret back"
            if result.secret_id
            else "the order in which rows are asked, which had no secret then"
        )
    return Replay(result, [float(fit.value) for fit in fits if fit.value is not None], changes)
