"""Final fits of one entry, from fit to score. No process sees hidden test inputs before all its seeds are fitted.

A process that has seen test inputs could pass them on to the next fit. So either each seed has a process of its own, or all seeds
of a process are fitted before the first one predicts. If a kind sends more than one query, the models are pickled, their process
ends, and each query goes to a process of its own, which gets all models and no other query.
"""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from harness.contract import Kind, Query, Task
from harness.dispatch import POLL_SECONDS, RunContext, raise_if_crowded, run_parallel
from harness.errors import TrialFailed
from harness.execution.cluster.proxies import RemoteTrial
from harness.execution.parent.fit_data import SharedInputs
from harness.execution.parent.trial import FitResult, Trial
from harness.kinds import pictures
from harness.scoring import Reply, ReplyReader, Scorer, reply
from harness.search.outcome import same_params
from leaderboard.result import Status
from leaderboard.store.facts import FinalFacts, TrialFacts
from leaderboard.store.leases import Leases
from leaderboard.store.store import Fit

MAX_CURVE_POINTS = 1000
"""Largest number of reported losses that are kept of one fit."""
Work = Callable[[int, str], None]
Each = Callable[[Sequence[int], Work], object]
"""Function that calls ``work(seed, device)`` for each of some seeds, and chooses the devices."""


def record_loss(curve: list[float | None], loss: float) -> bool:
    """Append a loss to a curve of at most `MAX_CURVE_POINTS`, None if not finite. Return False: a final fit is never pruned."""
    if len(curve) < MAX_CURVE_POINTS:
        curve.append(loss if math.isfinite(loss) else None)
    return False


class FinalsEntry(Protocol):
    """Interface of an `Entry` to its final fits."""

    @property
    def task(self) -> Task: ...
    @property
    def scorer(self) -> Scorer: ...

    sha256: str
    study: str
    attempt: int

    def save_artefact(self, name: str, content: bytes) -> None: ...


@dataclass
class FittedSeed:
    """Fitted seed: its trial, or its pickled model, and its replies so far."""

    trial: Trial | RemoteTrial
    fitted: FitResult
    valid: float
    curve: list[float | None]
    """Reported losses, at most `MAX_CURVE_POINTS`."""
    model: Any = None
    """Pickled model from `Trial.freeze`, for `thaw` in another process of the same pool."""
    answers: list[Reply] = field(default_factory=list)


@dataclass
class SharedProcessFinals:
    """Final fits of some ``seeds`` with one fresh worker, which forks all their trials.

    ``record`` is called with each scored fit. ``failures`` collects the errors of failed trials.
    """

    entry: FinalsEntry
    bench: RunContext
    params: dict[str, Any]
    seeds: Sequence[int]
    record: Callable[[Fit], None]
    failures: list[TrialFailed]
    fitted: dict[int, FittedSeed] = field(default_factory=dict)
    recording: threading.Lock = field(default_factory=threading.Lock)

    @property
    def scorer(self) -> Scorer:
        return self.entry.scorer

    def fit_options(self, seed: int, device: str) -> dict[str, Any]:
        return {"seed": seed + 1, "device": device, "time_limit": self.bench.time_limit}

    def run(self, each: Each) -> None:
        """Fit, predict, score and record all seeds. ``each`` runs a step of this work for all seeds.

        A seed that fails, here or elsewhere in the entry, stops the seeds that have not begun.
        """
        kind, test = self.entry.task.kind, self.scorer.data.test
        questions, read = self.scorer.queries(test)
        with ExitStack() as held:
            # Arrays in files that no other process was given: a file that two hold tells one what the other did with it.
            data = held.enter_context(closing(SharedInputs(self.bench.data.inputs)))
            held.callback(self.bench.workers.resume_spare)  # last, when the process that knows hidden inputs is gone
            worker = self.bench.workers.fresh()
            held.callback(worker.close)

            def fit(seed: int, device: str) -> None:
                trial = worker.trial(self.params, data, snapshots=seed == 0, **self.fit_options(seed, device))
                held.enter_context(trial)
                curve: list[float | None] = []
                fitted = trial.fit(partial(record_loss, curve))
                self.bench.slots.record_memory(device, fitted.gpu_memory)
                valid = self.scorer.valid(self.scorer.ask(trial, self.scorer.data.valid)[0])
                self.fitted[seed] = FittedSeed(trial, fitted, valid, curve)
                if len(questions) > 1:
                    self.fitted[seed].model = held.enter_context(trial.freeze())
                    trial.close()
                else:
                    trial.pause_clock()

            def ask(seed: int, device: str) -> None:
                fitting = self.fitted[seed]
                fitting.answers.append(reply(fitting.trial, questions[0], kind))
                fitting.trial.close()
                self.score(seed, read)

            each(self.seeds, self.collecting_failures(fit))
            if len(questions) == 1:
                self.bench.workers.pause_spare()
                each(list(self.fitted), self.collecting_failures(ask))
                return
            worker.close()
            for number, question in enumerate(questions, start=1):
                self.ask_apart(each, question, kind)
                if number == len(questions):
                    each(list(self.fitted), self.collecting_failures(lambda seed, device: self.score(seed, read)))

    def ask_apart(self, each: Each, question: Query, kind: Kind) -> None:
        """Send one query to every model, in a process that gets no other query."""
        if not self.fitted:
            return
        workers = self.bench.workers
        with ExitStack() as held:
            held.callback(workers.resume_spare)
            worker = workers.fresh()
            held.callback(worker.close)
            workers.pause_spare()

            def ask(seed: int, device: str) -> None:
                fitting = self.fitted[seed]
                with worker.thaw(fitting.model, **self.fit_options(seed, device)) as again:
                    again.thaw()
                    fitting.answers.append(reply(again, question, kind))

            each(list(self.fitted), self.collecting_failures(ask))

    def collecting_failures(self, work: Work) -> Work:
        def tried(seed: int, device: str) -> None:
            if self.failures:
                return
            try:
                work(seed, device)
            except TrialFailed as error:
                raise_if_crowded(error, device, self.bench.slots)
                self.failures.append(error)
                self.fitted.pop(seed, None)

        return tried

    def score(self, seed: int, read: ReplyReader) -> None:
        """Score a seed's answers against the hidden labels and record the fit. Save the pictures of the first seed."""
        entry, kind, test, fitting = self.entry, self.entry.task.kind, self.scorer.data.test, self.fitted[seed]
        answer, seconds = read(fitting.answers)
        scored = self.scorer.test(answer)
        if seed == 0:
            picture = kind.draw(answer, test)
            if picture:
                entry.save_artefact("picture.png", picture)
            for number, sheet in enumerate(
                fitting.fitted.snapshots if fitting.fitted.snapshots is not None else (), start=1
            ):
                entry.save_artefact(f"step-{number:02d}.png", pictures.grid(sheet))
        facts = FinalFacts(
            public=scored.public,
            private=scored.private,
            valid=fitting.valid,
            metrics=scored.metrics,
            fit_seconds=fitting.fitted.seconds,
            predict_seconds=seconds,
            peak_memory=fitting.trial.usage.peak_memory,
            n_parameters=fitting.fitted.n_parameters,
            summary=fitting.fitted.summary,
            curve=fitting.curve,
        )
        replicates, losses = scored.replicates.tolist(), scored.losses.tolist()
        fit = Fit(
            entry.study,
            "final",
            seed,
            self.params,
            entry.attempt,
            Status.COMPLETE,
            scored.score,
            facts.stored(),
            replicates,
            losses,
        )
        with self.recording:
            self.record(fit)


MAX_SHARED_SEEDS = 4
"""Largest number of fitted models that wait in one process."""
MAX_SHARED_SECONDS = 60.0
"""Longest median fit of the search, in seconds, with which seeds share a process. A fit that waits for others is lost if the
harness is killed."""


@dataclass(frozen=True)
class FinalFits:
    """Final fits of one entry, one a seed, scored on the hidden test split. Seeds on record are not fitted again.

    Several commands may work on one entry: one command leases a seed and fits it, and the other commands wait for the seed.
    """

    entry: FinalsEntry
    context: RunContext
    params: dict[str, Any]
    n_seeds: int

    def run(self) -> list[Fit]:
        """Run the final fits that are not on record, and return one recorded `Fit` a seed, in the order of seeds.

        Raises TrialFailed for the first seed that fails.
        """
        progress, noted_waiting = self.context.progress, False
        with closing(self.context.store.leases(self.context.study_key, "final")) as leases:
            while True:
                done = self.recorded()
                progress.seed(len(done), self.n_seeds)
                left = [seed for seed in range(self.n_seeds) if seed not in done]
                if not left:
                    return [done[seed] for seed in range(self.n_seeds)]
                claimed = sorted(leases.claim(left))
                done = self.recorded()  # the last holder of a lease may have recorded its seed
                if missing := [seed for seed in claimed if seed not in done]:
                    self.fit(missing, leases, done)
                elif not done.keys() >= set(left):
                    if not noted_waiting:
                        noted_waiting = True
                        progress.note(f"{len(left)} final fits are being run by another command; waiting for them")
                    time.sleep(POLL_SECONDS)

    def recorded(self) -> dict[int, Fit]:
        """Return the complete final fits on record with these hyperparameters, by seed."""
        return {
            fit.number: fit
            for fit in self.context.store.fits(self.context.study_key, "final")
            if fit.number < self.n_seeds and fit.status == Status.COMPLETE and same_params(fit.params, self.params)
        }

    def fit(self, seeds: Sequence[int], leases: Leases, done: dict[int, Fit]) -> None:
        """Fit, score and record ``seeds``, which this process holds in ``leases``, and add their fits to ``done``.

        Raises TrialFailed for the first seed that fails.
        """
        context, failures = self.context, list[TrialFailed]()

        def record(fit: Fit) -> None:
            context.store.add_fit(fit, leases[fit.number])
            done[fit.number] = fit
            context.progress.seed(len(done), self.n_seeds)

        # A process for each further query, where the kind asks more than once.
        query_processes = 2 if type(self.entry.task.kind).queries is not Kind.queries else 0
        if self.shares_process(seeds):
            context.workers.expect(1 + query_processes, query_processes)
            shared = SharedProcessFinals(self.entry, context, self.params, seeds, record, failures)
            shared.run(lambda jobs, work: run_parallel(jobs, work, context))
        else:
            context.workers.expect(len(seeds) * (1 + query_processes), query_processes)

            def fit_alone(seed: int, device: str) -> None:
                def run_here(jobs: Sequence[int], work: Work) -> None:
                    for job in jobs:
                        work(job, device)

                SharedProcessFinals(self.entry, context, self.params, [seed], record, failures).run(run_here)

            run_parallel(seeds, fit_alone, context)
        if failures:
            raise failures[0]

    def shares_process(self, seeds: Sequence[int]) -> bool:
        """Return whether ``seeds`` are all fitted with one worker before the first of them is queried.

        That saves the start of a process a seed. It pays where memory holds all models, and where little is lost if the harness is
        killed before the first seed is on record.
        """
        context = self.context
        if len(seeds) > MAX_SHARED_SEEDS or context.slots.device != "cpu" or not context.workers.keeps_models:
            return False
        seconds = [
            TrialFacts.of(fit).seconds
            for fit in context.store.fits(context.study_key, "search")
            if fit.status == Status.COMPLETE
        ]
        return not seconds or statistics.median(seconds) <= MAX_SHARED_SECONDS
