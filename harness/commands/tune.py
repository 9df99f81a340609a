"""Search only: `bakeoff tune`. What came of it, where to start from, and how to look at it with Optuna's own tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from harness.commands.run import check_limit, hands, plan
from harness.contract import Distribution, Limits, Task
from harness.dispatch import Progress
from harness.errors import PluginError, UsageError
from harness.evaluation.entry import Entry, EntrySettings, workers_for
from harness.evaluation.task_data import TaskData
from harness.plugins import registry
from harness.plugins.bundle import bundle
from harness.plugins.description import Description
from harness.plugins.source import Source
from harness.search.history import SearchConfig
from harness.search.outcome import SearchResult
from harness.search.sampler import importance, intermediate_values
from leaderboard import Store
from leaderboard.store.store import Fit

WARM = 5
"""The best configurations of another task's search that a warm start tries first."""


@dataclass(frozen=True)
class Tuned(SearchResult):
    """A search and what it teaches.

    ``history[k]`` is the best validation score after k + 1 trials, None before the first that was finished; ``importance`` each
    hyperparameter's share in what set good trials apart, by PED-ANOVA (Watanabe et al. 2023), empty where trials are too few.
    """

    history: list[float | None]
    importance: dict[str, float]


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
    limits: Limits = Limits(),  # noqa: B008, frozen
    cluster: str | None = None,
    warm_start: str | None = None,
    seed: int = 0,
    halving: bool = True,
    export: str | None = None,
    home: str | Path = ".bakeoff",
    store: str | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Search only: trials up to number ``trials``, going on where the store says that the same search stopped.

    ``warm_start`` names another task: the best of what the same submission tried there is tried first. ``seed`` is the sampler's;
    without ``halving`` no trial is ended early. Each of these makes another search. ``export`` is a file or the address of an
    Optuna storage, which the trials are written to as well; ``cluster`` that of a Ray cluster whose machines run them.
    """
    progress = progress or Progress()
    if trials < 1:
        raise UsageError(f"trials should be at least 1; it is {trials}")
    if not 0 <= seed < 1000:
        raise UsageError(f"seed should be 0 to 999; it is {seed}")
    check_limit(time_limit)
    check_limit(timeout)
    found, source = registry.find_task(task, progress.note).task, registry.find_submission(submission, progress.note)
    plan([found], [submission], progress)
    with ExitStack() as held:
        work = hands(held, devices, workers, isolation_tier, cluster, home, progress)
        settings = EntrySettings(trials, 1, time_limit, limits=limits, **work)
        kept = held.enter_context(closing(Store(Path(home), url=store)))
        first = best_elsewhere(warm_start, source, settings, kept, progress) if warm_start else ()
        manner = SearchConfig(tuple(first), seed, halving)
        code = bundle(source)
        # Its process imports what it needs while the data are loaded here.
        with workers_for(code, found, settings) as crew, closing(TaskData(found)) as ground:
            entry = Entry(ground, source, settings, kept, manner, code)
            progress.begin(found.name, source.name, 1, 1)
            description = crew.ready()
            if found.kind.name not in description.kinds:
                raise PluginError(
                    f"{source.name} answers {' and '.join(description.kinds)} tasks; this one is {found.kind.name}"
                )
            entry.attempt = 1 + max(
                (fit.attempt for fit in kept.fits(entry.study, "search") if fit.status not in ("complete", "pruned")),
                default=-1,
            )  # what failed before is tried again
            outcome = entry.search(entry.run_context(crew, progress), description, timeout)
            fits = [fit for fit in kept.fits(entry.study, "search") if fit.number < trials]
        if export:
            write_study(export, found, source, description, fits)
    return Tuned(
        **vars(outcome),
        history=history(fits, trials, found.ranking.higher_is_better),
        importance=importance(description.space, fits, higher_is_better=found.ranking.higher_is_better),
    )


def best_elsewhere(
    reference: str, source: Source, settings: EntrySettings, store: Store, progress: Progress
) -> list[Mapping[str, Any]]:
    """The best configurations of the same submission's search on another task, the best one first. Raises UsageError for none."""
    task = registry.find_task(reference, progress.note).task
    with closing(TaskData(task)) as ground:
        study = Entry(ground, source, settings, store).study
    fits = [fit for fit in store.fits(study, "search") if fit.status == "complete" and fit.value is not None]
    if not fits:
        raise UsageError(
            f"{source.name} has no search on {task.name} to start from; run bakeoff tune {task.name} {source.name} first"
        )
    sign = task.ranking.loss_sign
    return [fit.params for fit in sorted(fits, key=lambda fit: sign * (fit.value or 0.0))[:WARM]]


def history(fits: Sequence[Fit], trials: int, higher_is_better: bool) -> list[float | None]:
    """The best finished value after each trial, in the order of their numbers."""
    better = max if higher_is_better else min
    values = {fit.number: fit.value for fit in fits if fit.status == "complete"}
    found: list[float | None] = []
    for number in range(trials):
        value, before = values.get(number), found[-1] if found else None
        found.append(before if value is None else value if before is None else better(before, value))
    return found


def write_study(place: str, task: Task, source: Source, description: Description, fits: Sequence[Fit]) -> None:
    """Add what an Optuna storage does not hold yet of this search. Raises UsageError where it cannot be written."""
    url = place if "://" in place else f"sqlite:///{Path(place).absolute()}"
    direction = StudyDirection.MAXIMIZE if task.ranking.higher_is_better else StudyDirection.MINIMIZE
    try:
        study = optuna.create_study(
            storage=url, study_name=f"{task.name}/{source.name}", direction=direction, load_if_exists=True
        )
        there = {trial.user_attrs.get("number") for trial in study.get_trials(deepcopy=False)}
        study.add_trials([frozen(fit, description.space) for fit in fits if fit.number not in there])
    except Exception as error:  # of whatever driver the address names
        said = str(error).partition("\n")[0]
        raise UsageError(f"the study could not be written to {url}: {said}; the search itself is on record") from error


def frozen(fit: Fit, space: Mapping[str, Distribution]) -> FrozenTrial:
    """A recorded trial as Optuna keeps it, by the metric's own sign."""
    state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(fit.status, TrialState.FAIL)
    return optuna.trial.create_trial(
        state=state,
        params=fit.params,
        distributions=dict(space),
        value=fit.value if state is TrialState.COMPLETE else None,
        intermediate_values=intermediate_values(fit),
        user_attrs={"number": fit.number, "status": fit.status, "seconds": fit.facts.get("seconds")},
    )
