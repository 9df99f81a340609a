"""The final fits of one entry: seeds from fit to score, with nothing of the hidden test in sight before all are fitted.

A process that has seen test inputs could tell the next fit about them. So either every seed has a process of its own, or the seeds
of one process are all fitted, and wait, before the first is asked. Where a kind asks more than once, the models are pickled, their
process ends, and each question goes to a process of its own, which is given all models and no other question.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from harness.contract import Array, Kind, Task
from harness.dispatch import Bench, check_crowd
from harness.errors import TrialFailed
from harness.execution.cluster.proxies import RemoteTrial
from harness.execution.parent.fit_data import SharedInputs
from harness.execution.parent.trial import FitResult, Trial
from harness.kinds import pictures
from harness.scoring import Scorer
from leaderboard.store.store import Fit

CURVE = 1000
"""Reported losses that are kept of one fit."""
Work = Callable[[int, str], None]
Each = Callable[[Sequence[int], Work], object]
"""Runs work on every seed, with a device."""


def note(curve: list[float | None], loss: float) -> bool:
    """Keep a reported loss, None for one that is not finite; a final fit is never ended for it."""
    if len(curve) < CURVE:
        curve.append(loss if math.isfinite(loss) else None)
    return False


class Owner(Protocol):
    """What finals need of their entry."""

    @property
    def task(self) -> Task: ...

    sha256: str
    study: str
    attempt: int

    def keep(self, name: str, content: bytes) -> None: ...


@dataclass
class Fitting:
    """A seed that has been fitted: its trial, or its model where that has been pickled, and the answers so far."""

    trial: Trial | RemoteTrial
    fitted: FitResult
    valid: float
    curve: list[float | None]
    """The losses that it reported, the first `CURVE` of them."""
    model: Any = None
    """What `freeze` gave, for `thaw` of the same crew."""
    answers: list[tuple[Array, float]] = field(default_factory=list)


@dataclass
class Finals:
    """Seeds that share a process. ``record`` takes each fit as it is scored; ``failures`` collects what went wrong."""

    entry: Owner
    bench: Bench
    params: dict[str, Any]
    seeds: Sequence[int]
    record: Callable[[Fit], None]
    failures: list[TrialFailed]
    fittings: dict[int, Fitting] = field(default_factory=dict)
    recording: threading.Lock = field(default_factory=threading.Lock)

    @property
    def scorer(self) -> Scorer:
        return self.bench.scorer

    def options(self, seed: int, device: str) -> dict[str, Any]:
        return {"seed": seed + 1, "device": device, "time_limit": self.bench.time_limit}

    def run(self, each: Each) -> None:
        """Fit, ask, score and record. A seed that fails stops those that have not begun."""
        kind, test = self.entry.task.kind, self.scorer.data.test
        questions, read = self.scorer.questions(test, self.entry.sha256)
        with ExitStack() as held:
            # Arrays in files that no other process was given: a file that two hold tells one what the other did with it.
            data = held.enter_context(closing(SharedInputs(self.bench.data.inputs)))
            worker = self.bench.crew.fresh()
            held.callback(worker.close)

            def fit(seed: int, device: str) -> None:
                trial = worker.trial(self.params, data, snapshots=seed == 0, **self.options(seed, device))
                held.enter_context(trial)
                curve: list[float | None] = []
                fitted = trial.fit(partial(note, curve))
                self.bench.slots.record_memory(device, fitted.gpu_memory)
                valid = self.scorer.valid(self.scorer.ask(trial, self.scorer.data.valid, self.entry.sha256)[0])
                self.fittings[seed] = Fitting(trial, fitted, valid, curve)
                if len(questions) > 1:
                    self.fittings[seed].model = held.enter_context(trial.freeze())
                    trial.close()
                else:
                    trial.pause_clock()

            def ask(seed: int, device: str) -> None:
                fitting = self.fittings[seed]
                fitting.answers.append(fitting.trial.predict(questions[0], kind))
                fitting.trial.close()
                self.score(seed, read)

            each(self.seeds, self.guarded(fit))
            if len(questions) == 1:
                each(list(self.fittings), self.guarded(ask))
                return
            worker.close()
            for number, question in enumerate(questions, start=1):
                self.ask_apart(each, question, kind)
                if number == len(questions):
                    each(list(self.fittings), self.guarded(lambda seed, device: self.score(seed, read)))

    def ask_apart(self, each: Each, question: Array, kind: Kind) -> None:
        """Put one question to every model, in a process that knows no other."""
        if not self.fittings:
            return
        with self.bench.crew.fresh() as worker:

            def ask(seed: int, device: str) -> None:
                fitting = self.fittings[seed]
                with worker.thaw(fitting.model, **self.options(seed, device)) as again:
                    again.thaw()
                    fitting.answers.append(again.predict(question, kind))

            each(list(self.fittings), self.guarded(ask))

    def guarded(self, work: Work) -> Work:
        def tried(seed: int, device: str) -> None:
            if self.failures:
                return
            try:
                work(seed, device)
            except TrialFailed as error:
                check_crowd(error, device, self.bench.slots)
                self.failures.append(error)
                self.fittings.pop(seed, None)

        return tried

    def score(self, seed: int, read: Callable[[Sequence[tuple[Array, float]]], tuple[Array, float]]) -> None:
        """Score one seed's answers against the hidden labels and record the fit; keep the pictures of the first seed."""
        entry, kind, test, fitting = self.entry, self.entry.task.kind, self.scorer.data.test, self.fittings[seed]
        answer, seconds = read(fitting.answers)
        scored = self.scorer.test(answer)
        if seed == 0:
            picture = kind.draw(answer, test)
            if picture:
                entry.keep("picture.png", picture)
            for number, sheet in enumerate(
                fitting.fitted.snapshots if fitting.fitted.snapshots is not None else (), start=1
            ):
                entry.keep(f"step-{number:02d}.png", pictures.grid(sheet))
        facts = {
            "public": scored.public,
            "private": scored.private,
            "valid": fitting.valid,
            "metrics": scored.metrics,
            "fit_seconds": fitting.fitted.seconds,
            "predict_seconds": seconds,
            "peak_memory": fitting.trial.usage.peak_memory,
            "n_parameters": fitting.fitted.n_parameters,
            "summary": fitting.fitted.summary,
            "curve": fitting.curve,
        }
        replicates, losses = scored.replicates.tolist(), scored.losses.tolist()
        fit = Fit(
            entry.study, "final", seed, self.params, entry.attempt, "complete", scored.score, facts, replicates, losses
        )
        with self.recording:
            self.record(fit)
