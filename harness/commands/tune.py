"""`bakeoff tune`: a search without final fits, its result, warm starts from another task, and the export to Optuna's tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from harness.commands.options import RunOptions, check_seconds
from harness.commands.run import match_entries, open_resources
from harness.contract import Distribution, Limits, Task
from harness.dispatch import Progress
from harness.errors import PluginError, UsageError
from harness.evaluation.entry import Entry, EntrySettings, workers_for
from harness.evaluation.task_data import TaskData
from harness.plugins import registry
from harness.plugins.bundle import bundle
from harness.plugins.description import Description
from harness.plugins.source import Source
from harness.search.outcome import SearchResult
from harness.search.sampler import TRIAL_STATES, importance, intermediate_values
from harness.search.trial import SearchConfig
from leaderboard import Store
from leaderboard.result import Status
from leaderboard.store.facts import TrialFacts
from leaderboard.store.store import Fit

WARM_START_TRIALS = 5
"""Number of the best configurations of another task's search that a warm start tries first."""


@dataclass(frozen=True)
class TuningResult(SearchResult):
    """Result of a search with its course and the importance of hyperparameters.

    ``history[k]`` is the best validation score after k + 1 trials, None before the first complete one. ``importance`` is the share
    of each hyperparameter in the difference between the best trials and all, by PED-ANOVA (Watanabe et al. 2023); it is empty if
    trials are too few.
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
) -> TuningResult:
    """Search the hyperparameters of a submission on a task, up to ``trials`` trials in all, and return the best; no final fits.

    A search that was stopped goes on from its recorded trials. After ``timeout`` seconds no trial is started. ``time_limit`` is in
    seconds, for one fit with its predictions. ``warm_start`` names another task: the best configurations of the submission's search
    on that task are tried first. ``seed`` is the sampler's; without ``halving`` no trial is pruned. Another value of
    ``warm_start``, ``seed`` or ``halving`` makes another search. ``export`` is the file or URL of an Optuna storage that gets the
    trials too. ``cluster`` is the address of a Ray cluster whose machines run the trials.

    Raises UsageError or PluginError if the request is wrong, TrialFailed if no trial succeeds.
    """
    options = RunOptions(time_limit, workers, devices, isolation_tier, limits, cluster, Path(home), store)
    return tune_with(
        task,
        submission,
        options,
        trials=trials,
        timeout=timeout,
        warm_start=warm_start,
        seed=seed,
        halving=halving,
        export=export,
        progress=progress,
    )


def tune_with(
    task: str,
    submission: str,
    options: RunOptions,
    *,
    trials: int,
    timeout: float | None,
    warm_start: str | None,
    seed: int,
    halving: bool,
    export: str | None,
    progress: Progress | None,
) -> TuningResult:
    """Search the hyperparameters of a submission on a task under ``options`` and return the best; all else is as in `tune`."""
    progress = progress or Progress()
    if trials < 1:
        raise UsageError(f"trials should be at least 1; it is {trials}")
    if not 0 <= seed < 1000:
        raise UsageError(f"seed should be 0 to 999; it is {seed}")
    check_seconds(timeout)
    found, source = registry.find_task(task, progress.note).task, registry.find_submission(submission, progress.note)
    match_entries([found], [submission], progress)
    with ExitStack() as stack:
        resources = open_resources(stack, options, progress)
        settings = EntrySettings(trials, 1, options.time_limit, limits=options.limits, **resources)
        results = stack.enter_context(closing(Store(options.home, url=options.store)))
        first = best_params_on(warm_start, source, settings, results, progress) if warm_start else ()
        config = SearchConfig(tuple(first), seed, halving)
        code = bundle(source)
        # The worker imports its libraries while the data are loaded here.
        with workers_for(code, found, settings) as workers, closing(TaskData(found, results.secret)) as task_data:
            entry = Entry(task_data, source, settings, results, config, code)
            progress.begin(found.name, source.name, 1, 1)
            description = workers.ready()
            if found.kind.name not in description.kinds:
                raise PluginError(
                    f"{source.name} answers {' and '.join(description.kinds)} tasks; this one is {found.kind.name}"
                )
            entry.attempt = 1 + max(
                (
                    fit.attempt
                    for fit in results.fits(entry.study, "search")
                    if fit.status not in (Status.COMPLETE, Status.PRUNED)
                ),
                default=-1,
            )  # so that trials which failed before are tried again
            outcome = entry.search(entry.run_context(workers, progress), description, timeout)
            fits = [fit for fit in results.fits(entry.study, "search") if fit.number < trials]
        if export:
            export_study(export, found, source, description, fits)
    higher = found.ranking.higher_is_better
    return TuningResult(
        **vars(outcome),
        history=best_after_each_trial(fits, trials, higher_is_better=higher),
        importance=importance(description.space, fits, higher_is_better=higher),
    )


def best_params_on(
    reference: str, source: Source, settings: EntrySettings, store: Store, progress: Progress
) -> list[Mapping[str, Any]]:
    """Return the best configurations of a submission's recorded search on the task ``reference``, best first.

    At most `WARM_START_TRIALS` are returned. Raises UsageError if the search has no complete trial.
    """
    task = registry.find_task(reference, progress.note).task
    with closing(TaskData(task, store.secret)) as task_data:
        study = Entry(task_data, source, settings, store).study
    fits = [fit for fit in store.fits(study, "search") if fit.status == Status.COMPLETE and fit.value is not None]
    if not fits:
        raise UsageError(
            f"{source.name} has no search on {task.name} to start from; run bakeoff tune {task.name} {source.name} first"
        )
    sign = task.ranking.loss_sign
    return [fit.params for fit in sorted(fits, key=lambda fit: sign * (fit.value or 0.0))[:WARM_START_TRIALS]]


def best_after_each_trial(fits: Sequence[Fit], trials: int, *, higher_is_better: bool) -> list[float | None]:
    """Return the best validation score of the complete trials up to each trial number; None before the first complete one."""
    better = max if higher_is_better else min
    values = {fit.number: fit.value for fit in fits if fit.status == Status.COMPLETE}
    best: list[float | None] = []
    for number in range(trials):
        value, before = values.get(number), best[-1] if best else None
        best.append(before if value is None else value if before is None else better(before, value))
    return best


def export_study(place: str, task: Task, source: Source, description: Description, fits: Sequence[Fit]) -> None:
    """Add the trials of a search to the Optuna storage at ``place``, a file or URL, except those that it holds already.

    Raises UsageError if the storage cannot be written.
    """
    url = place if "://" in place else f"sqlite:///{Path(place).absolute()}"
    direction = StudyDirection.MAXIMIZE if task.ranking.higher_is_better else StudyDirection.MINIMIZE
    try:
        study = optuna.create_study(
            storage=url, study_name=f"{task.name}/{source.name}", direction=direction, load_if_exists=True
        )
        exported = {trial.user_attrs.get("number") for trial in study.get_trials(deepcopy=False)}
        study.add_trials([frozen_trial(fit, description.space) for fit in fits if fit.number not in exported])
    except Exception as error:  # of whatever driver the address names
        said = str(error).partition("\n")[0]
        raise UsageError(f"the study could not be written to {url}: {said}; the search itself is on record") from error


def frozen_trial(fit: Fit, space: Mapping[str, Distribution]) -> FrozenTrial:
    """Return a recorded trial as a trial of Optuna. Its value is the validation score itself, in the metric's own direction."""
    state = TRIAL_STATES.get(fit.status, TrialState.FAIL)
    return optuna.trial.create_trial(
        state=state,
        params=fit.params,
        distributions=dict(space),
        value=fit.value if state is TrialState.COMPLETE else None,
        intermediate_values=intermediate_values(fit),
        user_attrs={"number": fit.number, "status": fit.status, "seconds": TrialFacts.of(fit).seconds},
    )
