"""One entry (a submission on a task) from start to finish: search, final seeds, score, record."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from harness.contract import Limits, Task
from harness.dispatch import Progress, RunContext
from harness.errors import BakeoffError, PluginError, TrialFailed
from harness.evaluation.final_fits import FinalFits
from harness.evaluation.provenance import commit, versions
from harness.evaluation.task_data import TaskData
from harness.execution.cluster.proxies import RemoteWorkerPool
from harness.execution.cluster.ray_cluster import Cluster
from harness.execution.parent.energy import EnergyMeter
from harness.execution.parent.isolation import Isolation
from harness.execution.parent.limits import default_memory
from harness.execution.parent.slots import Slots
from harness.execution.parent.worker_pool import WorkerPool
from harness.execution.parent.workers import WorkerConfig
from harness.plugins.bundle import Bundle, bundle
from harness.plugins.description import Description
from harness.plugins.source import Source
from harness.plugins.task_files import refuse_task_files
from harness.scoring import Scorer
from harness.search.outcome import SearchResult
from harness.search.sampler import MIN_FOR_IMPORTANCE, default_params, importance
from harness.search.scheduler import Search
from harness.search.trial import SearchConfig
from leaderboard import Result, Store, StoreError
from leaderboard.result import Status, content_key
from leaderboard.statistics.inference import seed_variances
from leaderboard.statistics.ranking import score_interval
from leaderboard.store.facts import FinalFacts
from leaderboard.store.store import Fit, utc_timestamp


@dataclass(frozen=True)
class EntrySettings:
    """Settings for the evaluation of entries: numbers of search ``trials`` and final ``seeds``, limits, slots, isolation.

    ``time_limit`` is in seconds, for one fit with its predictions; None takes the task's own. ``limits`` take precedence over the
    task's.
    """

    trials: int
    seeds: int
    time_limit: float | None
    slots: Slots
    isolation: Isolation
    limits: Limits = Limits()  # noqa: RUF009, frozen
    cluster: Cluster | None = None
    """Cluster that runs the trials; None for this machine."""


def workers_for(code: Bundle, task: Task, settings: EntrySettings) -> WorkerPool | RemoteWorkerPool:
    """Start the first process of the submission ``code`` and return the pool of its workers.

    The task gives limits only; its data need not be loaded yet.
    """
    limits = settings.limits.over(task.limits)
    if settings.cluster:
        return settings.cluster.worker_pool(code, limits)
    at_once = settings.slots.at_once
    share = Limits(memory=default_memory(at_once))
    return WorkerPool(code, WorkerConfig(settings.isolation, limits.over(share), settings.slots.threads, at_once))


class Entry:
    """One submission on one task, under given settings. `evaluate` searches, runs the final fits, scores and records.

    ``ground`` is the task with its data, ``manner`` the settings of the search. ``code`` is the submission's code, if already read.
    """

    def __init__(
        self,
        ground: TaskData,
        source: Source,
        settings: EntrySettings,
        store: Store,
        manner: SearchConfig | None = None,
        code: Bundle | None = None,
    ) -> None:
        self.task_data, self.source, self.settings, self.store = ground, source, settings, store
        self.task = ground.task
        self.time_limit = settings.time_limit or self.task.time_limit
        self.bundle = code or bundle(source)
        refuse_task_files(source.name, self.bundle.paths)
        self.sha256 = self.bundle.sha256
        # A search on another device is another search: its times and its last digits differ.
        self.study = content_key(ground.study_key(self.sha256, source.object, self.time_limit), settings.slots.device)
        self.search_config = manner or SearchConfig()
        if self.search_config != SearchConfig():
            self.study = content_key(self.study, asdict(self.search_config))
        self.key = content_key(self.study, source.name, settings.trials, settings.seeds)
        self.recorded = store.of_entry(self.key)
        # Whatever budget an earlier attempt had: what failed then is tried again now.
        self.attempt = sum(
            (result.source_sha256, result.data_sha256) == (self.sha256, ground.sha256)
            for result in store.failures(self.task.name)
        )

    def blank_result(self) -> Result:
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
            status=Status.FAILED,
            references=self.task_data.references,
            device=self.settings.slots.device,
            isolation=self.settings.isolation.name,
            probe=dict(self.settings.isolation.answers),
            study=self.study,
            source=":".join(filter(None, (self.bundle.files[0][0], self.source.object))),
            source_sha256=self.sha256,
            data_sha256=self.task_data.sha256,
            secret_id=self.task_data.secret_id,
            versions=versions(),
            commit=commit(self.source.path.parent),
        )

    @property
    def scorer(self) -> Scorer:
        """Scorer that holds the hidden targets. Only the final fits use it."""
        return self.task_data.scorer

    def start_workers(self) -> WorkerPool | RemoteWorkerPool:
        """Start the first process of this submission and return the pool of its workers. The caller closes the pool."""
        return workers_for(self.bundle, self.task, self.settings)

    def run_context(self, crew: WorkerPool | RemoteWorkerPool, progress: Progress) -> RunContext:
        """Return the context in which this entry's trials run. Processes of the workers ``crew`` may still be starting."""
        ground, slots = self.task_data, self.settings.slots
        return RunContext(
            crew,
            ground.fit_data,
            ground.validation_scorer,
            self.store,
            self.study,
            self.attempt,
            self.time_limit,
            slots,
            progress,
        )

    def evaluate(self, bench: RunContext) -> Result:
        """Search, run the final fits over seeds, score them, record and return the entry's row.

        A failure of the submission gives a row with status and error, not an exception. Raises BakeoffError for a fault of the
        task, and StoreError.
        """
        result, replicates = self.blank_result(), np.zeros(0, dtype=np.float32)
        kind = self.task.kind.name
        try:
            description = bench.workers.ready()
            if kind not in description.kinds:
                raise PluginError(
                    f"{self.source.name} answers {' and '.join(description.kinds)} tasks; this one is {kind}"
                )
            found = self.search(bench, description)
            result = replace(
                result,
                params=found.params,
                history=found.steps,
                importance=self.importance(description),
                valid_score=found.valid,
                n_trials=found.n_trials,
                n_pruned=found.n_pruned,
                n_failed=found.n_failed,
                search_seconds=found.seconds,
            )
            finals = self.final_fits(bench, found.params)
            meter, known = EnergyMeter(gpus=self.settings.slots.device != "cpu"), finals.recorded()
            result, replicates = self.complete(result, finals.run())
            if not known and self.settings.cluster is None and (used := meter.joules()) is not None:
                result = replace(result, energy_joules=used / self.settings.seeds)
        except PluginError as error:
            result = replace(result, error=str(error))
        except TrialFailed as error:
            result = replace(result, status=error.status, error=str(error))
        except (BakeoffError, StoreError):
            raise  # the task's fault or the disk's, not this entry's
        except Exception as error:
            result = replace(result, error=f"could not be evaluated: {type(error).__name__}: {error}"[:600])
        result = replace(result, created_at=utc_timestamp())
        for name, content in self.bundle.files:
            self.save_artefact(f"source/{name}", content)
        self.save_artefact("log.txt", bench.workers.printed.encode())
        self.store.add(result, replicates.tolist())
        return result

    def search(self, bench: RunContext, description: Description, timeout: float | None = None) -> SearchResult:
        """Search hyperparameters and return the result. No trial starts later than ``timeout`` seconds from now.

        Without a search space or trials, the result is the submission's default hyperparameters.
        """
        if not description.space or self.settings.trials == 0:
            return SearchResult(default_params(description), None, 0, 0, 0, 0.0, [])
        return Search(
            bench, description, n_trials=self.settings.trials, timeout=timeout, config=self.search_config
        ).run()

    def importance(self, description: Description) -> dict[str, float]:
        """Return the importance of each hyperparameter in this entry's search, as shares of 1; empty after too few trials."""
        if self.settings.trials < MIN_FOR_IMPORTANCE or not description.space:
            return {}
        fits = [fit for fit in self.store.fits(self.study, "search") if fit.number < self.settings.trials]
        return importance(description.space, fits, higher_is_better=self.task.ranking.higher_is_better)

    def final_fits(self, context: RunContext, params: dict[str, Any]) -> FinalFits:
        """Return the final fits of this entry with the hyperparameters ``params``, one a seed. They have not run yet."""
        return FinalFits(self, context, params, self.settings.seeds)

    def complete(self, result: Result, finals: Sequence[Fit]) -> tuple[Result, Any]:
        """Return the complete row of an entry with these final fits, and its bootstrap scores (draws,) float64.

        Scores are means over seeds. The interval covers chance in samples and seeds.
        """
        facts = [FinalFacts.of(fit) for fit in finals]
        scores = [float(fit.value) for fit in finals if fit.value is not None]
        metrics = {
            name: statistics.fmean(fact.metrics[name] for fact in facts)
            for name in facts[0].metrics
            if all(name in fact.metrics for fact in facts)
        }
        by_seed = np.array([fit.replicates for fit in finals], dtype=np.float64)  # from the store they are float32
        replicates = by_seed.mean(axis=0)
        losses = np.array([fit.losses for fit in finals], dtype=np.float64)  # (seeds, 0) where the metric is no mean
        valid = statistics.fmean(fact.valid for fact in facts) if result.valid_score is None else result.valid_score
        block = self.task.kind.block
        result = replace(
            result,
            score=statistics.fmean(scores),
            seeds=scores,
            seed_interaction=seed_variances(losses, block)[1] if losses.size else 0.0,
            units=max(len(self.task_data.data.test) // block, 1),
        )
        low, high = score_interval(result, replicates, losses)
        return replace(
            result,
            status=Status.COMPLETE,
            score_std=statistics.stdev(scores) if len(scores) > 1 else 0.0,
            ci_low=low,
            ci_high=high,
            public_score=statistics.fmean(fact.public for fact in facts),
            private_score=statistics.fmean(fact.private for fact in facts),
            valid_score=valid,
            metrics=metrics,
            remarks=list(self.task.kind.flags(metrics)),
            fit_seconds=statistics.fmean(fact.fit_seconds for fact in facts),
            predict_seconds=statistics.fmean(fact.predict_seconds for fact in facts),
            peak_memory_mb=max(fact.peak_memory for fact in facts) / 1e6,
            n_parameters=facts[0].n_parameters,
            summary=facts[0].summary,
        ), replicates

    def save_artefact(self, name: str, content: bytes) -> None:
        """Save ``content`` as the file ``name`` among the artefacts of this entry's result in the store."""
        self.store.keep(self.blank_result().result_id, name, content)
