"""One entry from start to finish: search, final seeds, score, record."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from harness.contract import Kind, Limits, Task
from harness.dispatch import LOOK, Bench, Progress, in_parallel
from harness.errors import BakeoffError, PluginError, TrialFailed
from harness.evaluation.final_fits import Finals
from harness.evaluation.provenance import commit, versions
from harness.evaluation.task_data import Ground
from harness.execution.cluster.proxies import RemoteWorkerPool
from harness.execution.cluster.ray_cluster import Cluster
from harness.execution.parent.energy import EnergyMeter
from harness.execution.parent.isolation import Isolation
from harness.execution.parent.limits import default_memory
from harness.execution.parent.slots import Slots
from harness.execution.parent.workers import WorkerConfig, WorkerPool
from harness.plugins.bundle import Bundle, bundle
from harness.plugins.description import Description
from harness.plugins.source import Source
from harness.search.history import Manner
from harness.search.outcome import Found, same
from harness.search.sampler import ENOUGH, first_guess, importance
from harness.search.scheduler import Search
from leaderboard import Result, Store, StoreError
from leaderboard.result import content_key
from leaderboard.statistics.inference import seed_variances
from leaderboard.statistics.ranking import score_interval
from leaderboard.store.leases import Leases
from leaderboard.store.store import Fit, utc_timestamp


@dataclass(frozen=True)
class Settings:
    """How entries are evaluated. ``time_limit`` is in seconds for one fit with its predictions; None is the task's own.

    ``limits`` go before the task's.
    """

    trials: int
    seeds: int
    time_limit: float | None
    slots: Slots
    isolation: Isolation
    limits: Limits = Limits()  # noqa: RUF009, frozen
    cluster: Cluster | None = None
    """Where trials run, None being this machine."""


def crew_for(code: Bundle, task: Task, settings: Settings) -> WorkerPool | RemoteWorkerPool:
    """The processes of a submission that is to be run on a task, the first one started. Its data need not be there yet."""
    limits = settings.limits.over(task.limits)
    if settings.cluster:
        return settings.cluster.worker_pool(code, limits)
    at_once = settings.slots.at_once
    share = Limits(memory=default_memory(at_once))
    return WorkerPool(code, WorkerConfig(settings.isolation, limits.over(share), settings.slots.threads, at_once))


MOST_HELD, LONGEST_HELD = 4, 60.0
"""Fitted models of an entry that wait for each other at once, and the seconds of a fit that may be lost by waiting."""


class Entry:
    """One submission on one task, under given settings."""

    def __init__(
        self,
        ground: Ground,
        source: Source,
        settings: Settings,
        store: Store,
        manner: Manner | None = None,
        code: Bundle | None = None,
    ) -> None:
        self.ground, self.source, self.settings, self.store = ground, source, settings, store
        self.task = ground.task
        self.time_limit = settings.time_limit or self.task.time_limit
        self.bundle = code or bundle(source)
        self.sha256 = self.bundle.sha256
        # A search on another device is another search: its times and its last digits differ.
        self.study = content_key(ground.study_key(self.sha256, source.object, self.time_limit), settings.slots.device)
        self.manner = manner or Manner()
        if self.manner != Manner():
            self.study = content_key(self.study, asdict(self.manner))
        self.key = content_key(self.study, source.name, settings.trials, settings.seeds)
        self.known = store.of_entry(self.key)
        # Whatever budget an earlier attempt had: what failed then is tried again now.
        self.attempt = sum(
            (result.source_sha256, result.data_sha256) == (self.sha256, ground.sha256)
            for result in store.failures(self.task.name)
        )

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
            probe=dict(self.settings.isolation.answers),
            study=self.study,
            source=":".join(filter(None, (self.bundle.files[0][0], self.source.object))),
            source_sha256=self.sha256,
            data_sha256=self.ground.sha256,
            versions=versions(),
            commit=commit(self.source.path.parent),
        )

    def crew(self) -> WorkerPool | RemoteWorkerPool:
        """This submission's processes, the first one started; close them when done."""
        return crew_for(self.bundle, self.task, self.settings)

    def bench(self, crew: WorkerPool | RemoteWorkerPool, progress: Progress) -> Bench:
        """What this entry's trials run on. The crew may still be warming up."""
        ground, slots = self.ground, self.settings.slots
        return Bench(
            crew,
            ground.fit_data,
            ground.scorer,
            self.store,
            self.study,
            self.attempt,
            self.time_limit,
            slots,
            progress,
        )

    def evaluate(self, bench: Bench) -> Result:
        """Search, fit again over seeds, record. Every failure of the submission ends as a row, none as an exception."""
        result, replicates = self.blank(), np.zeros(0, dtype=np.float32)
        kind = self.task.kind.name
        try:
            description = bench.crew.ready()
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
            meter, known = EnergyMeter(gpus=self.settings.slots.device != "cpu"), self.recorded_finals(found.params)
            result, replicates = self.complete(result, self.finals(bench, found.params))
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
            self.keep(f"source/{name}", content)
        self.keep("log.txt", bench.crew.printed.encode())
        self.store.add(result, replicates.tolist())
        return result

    def search(self, bench: Bench, description: Description, timeout: float | None = None) -> Found:
        """The search of this entry; without a space or a budget, the first guess as it is."""
        if not description.space or self.settings.trials == 0:
            return Found(first_guess(description), None, 0, 0, 0, 0.0, [])
        return Search(bench, description, n_trials=self.settings.trials, timeout=timeout, manner=self.manner).run()

    def importance(self, description: Description) -> dict[str, float]:
        """Of what this entry's search has tried."""
        if self.settings.trials < ENOUGH or not description.space:
            return {}
        fits = [fit for fit in self.store.fits(self.study, "search") if fit.number < self.settings.trials]
        return importance(description.space, fits, higher_is_better=self.task.ranking.higher_is_better)

    def finals(self, bench: Bench, params: dict[str, Any]) -> list[Fit]:
        """One fit a seed with these parameters, scored on the hidden test; those on record are not done again."""
        wanted = self.settings.seeds
        waited = False
        with closing(self.store.leases(self.study, "final")) as leases:
            while True:
                done = self.recorded_finals(params)
                bench.watcher.seed(len(done), wanted)
                left = [seed for seed in range(wanted) if seed not in done]
                if not left:
                    return [done[seed] for seed in range(wanted)]
                ours = sorted(leases.claim(left))
                now_done = self.recorded_finals(params)  # by the one who had them before us
                if ours := [seed for seed in ours if seed not in now_done]:
                    self.fit_finals(bench, params, ours, leases, now_done)
                elif not now_done.keys() >= set(left):
                    if not waited:
                        waited = True
                        bench.watcher.note(f"{len(left)} final fits are being run by another command; waiting for them")
                    time.sleep(LOOK)

    def recorded_finals(self, params: dict[str, Any]) -> dict[int, Fit]:
        return {
            fit.number: fit
            for fit in self.store.fits(self.study, "final")
            if fit.number < self.settings.seeds and fit.status == "complete" and same(fit.params, params)
        }

    def fit_finals(
        self, bench: Bench, params: dict[str, Any], seeds: Sequence[int], leases: Leases, done: dict[int, Fit]
    ) -> None:
        """Fit, score and record these seeds. Raises TrialFailed for the first that fails."""
        failures: list[TrialFailed] = []

        def record(fit: Fit) -> None:
            self.store.add_fit(fit, leases[fit.number])
            done[fit.number] = fit
            bench.watcher.seed(len(done), self.settings.seeds)

        questions = 2 if type(self.task.kind).queries is not Kind.queries else 0
        if self.are_held(bench, seeds):
            bench.crew.expect(1 + questions)
            Finals(self, bench, params, seeds, record, failures).run(lambda jobs, work: in_parallel(jobs, work, bench))
        else:
            bench.crew.expect(len(seeds) * (1 + questions))

            def alone(seed: int, device: str) -> None:
                def each(jobs: Sequence[int], work: Callable[[int, str], None]) -> None:
                    for job in jobs:
                        work(job, device)

                Finals(self, bench, params, [seed], record, failures).run(each)

            in_parallel(seeds, alone, bench)
        if failures:
            raise failures[0]

    def are_held(self, bench: Bench, seeds: Sequence[int]) -> bool:
        """Whether seeds are fitted in one process, and asked when all of them are: where another process costs more than is lost if
        the harness is killed before the first of them is on record, and memory holds them all."""
        if len(seeds) > MOST_HELD or bench.slots.device != "cpu" or not bench.crew.keeps_models:
            return False
        known = [
            fit.facts.get("seconds", 0.0) for fit in self.store.fits(self.study, "search") if fit.status == "complete"
        ]
        return not known or statistics.median(known) <= LONGEST_HELD

    def complete(self, result: Result, finals: Sequence[Fit]) -> tuple[Result, Any]:
        """The row of a finished entry: means over seeds, and an interval over samples and seeds together."""
        facts = [fit.facts for fit in finals]
        scores = [float(fit.value) for fit in finals if fit.value is not None]
        metrics = {
            name: statistics.fmean(fact["metrics"][name] for fact in facts)
            for name in facts[0]["metrics"]
            if all(name in fact["metrics"] for fact in facts)
        }
        by_seed = np.array([fit.replicates for fit in finals], dtype=np.float64)  # from the store they are float32
        replicates = by_seed.mean(axis=0)
        losses = np.array([fit.losses for fit in finals], dtype=np.float64)  # (seeds, 0) where the metric is no mean
        valid = statistics.fmean(fact["valid"] for fact in facts) if result.valid_score is None else result.valid_score
        block = self.task.kind.block
        result = replace(
            result,
            score=statistics.fmean(scores),
            seeds=scores,
            seed_interaction=seed_variances(losses, block)[1] if losses.size else 0.0,
            units=max(len(self.ground.data.test) // block, 1),
        )
        low, high = score_interval(result, replicates, losses)
        return replace(
            result,
            status="complete",
            score_std=statistics.stdev(scores) if len(scores) > 1 else 0.0,
            ci_low=low,
            ci_high=high,
            public_score=statistics.fmean(fact["public"] for fact in facts),
            private_score=statistics.fmean(fact["private"] for fact in facts),
            valid_score=valid,
            metrics=metrics,
            remarks=list(self.task.kind.remarks(metrics)),
            fit_seconds=statistics.fmean(fact["fit_seconds"] for fact in facts),
            predict_seconds=statistics.fmean(fact["predict_seconds"] for fact in facts),
            peak_memory_mb=max(fact["peak_memory"] for fact in facts) / 1e6,
            n_parameters=facts[0]["n_parameters"],
            summary=facts[0]["summary"],
        ), replicates

    def keep(self, name: str, content: bytes) -> None:
        """Put a file among this entry's artefacts."""
        self.store.keep(self.blank().result_id, name, content)
