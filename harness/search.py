"""The search of one submission's hyperparameters: Optuna asked and told, trials run in forks, every result recorded.

The study lives in memory and is rebuilt from the store, so that a search goes on where it stopped. It minimises: metrics where
higher is better are negated, and what a submission reports is a loss. Each trial's sampler depends on the trial's number alone
beside the history, not on how many processes it took to get there.
"""

from __future__ import annotations

import itertools
import json
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from harness.contract import Distribution
from harness.execution.pool import Crew, Description
from harness.execution.slots import Slots
from harness.execution.trial import FitData, TrialFailed, TrialPruned
from harness.scoring import Scorer
from leaderboard import Store
from leaderboard.store import Fit

SEARCH_SEED = 0
GIVE_UP_AFTER = 3
"""Failed trials without a single good one, after which the rest are not tried."""

MOST_REPORTS = 10_000
"""Reports of one trial that are looked at and recorded."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Watcher(Protocol):
    """What is told about an entry as it goes."""

    def trial(self, done: int, wanted: int, best: float | None) -> None: ...
    def seed(self, done: int, wanted: int) -> None: ...


@dataclass(frozen=True)
class Found:
    """The end of a search. ``valid`` is the best validation score; ``seconds`` the sum over trials."""

    params: dict[str, Any]
    valid: float | None
    n_trials: int
    n_pruned: int
    n_failed: int
    seconds: float


def middle(distribution: Distribution) -> Any:
    """The value to try first where a plug-in names none: the (logarithmic) middle, or the first choice."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    low, high = float(distribution.low), float(distribution.high)
    value = math.sqrt(low * high) if distribution.log else (low + high) / 2
    if distribution.step:
        value = low + round((value - low) / distribution.step) * distribution.step
    return int(value) if isinstance(distribution, IntDistribution) else value


def first_guess(description: Description) -> dict[str, Any]:
    return {name: description.defaults.get(name, middle(space)) for name, space in description.space.items()}


class Study:
    """An in-memory Optuna study with numbers of its own. Not thread-safe: `search` holds a lock."""

    def __init__(self, description: Description, *, higher_is_better: bool) -> None:
        self.space = dict(description.space)
        self.first = first_guess(description)
        self.sign = -1.0 if higher_is_better else 1.0
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=3)
        self.study = optuna.create_study(direction="minimize", pruner=pruner)

    def restore(self, fit: Fit) -> None:
        state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(fit.status, TrialState.FAIL)
        steps = {step: loss for step, loss in enumerate(fit.facts.get("losses", []), start=1) if loss is not None}
        self.study.add_trial(
            optuna.trial.create_trial(
                state=state,
                params=fit.params,
                distributions=self.space,
                intermediate_values=steps,
                system_attrs=fit.facts.get("rungs", {}),
                value=self.sign * fit.value if state is TrialState.COMPLETE and fit.value is not None else None,
            )
        )

    def ask(self, number: int) -> optuna.Trial:
        self.study.sampler = optuna.samplers.TPESampler(seed=SEARCH_SEED + number, multivariate=True)
        if number == 0:
            self.study.enqueue_trial(self.first)
        return self.study.ask(self.space)

    def tell(self, trial: optuna.Trial, status: str, value: float | None) -> dict[str, float]:
        """Close a trial; what its rungs of the pruner hold, for `restore`."""
        state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(status, TrialState.FAIL)
        loss = self.sign * value if state is TrialState.COMPLETE and value is not None else None
        closed = self.study.tell(trial, loss, state)
        return {name: value for name, value in closed.system_attrs.items() if name.startswith("completed_rung_")}


@dataclass(frozen=True)
class Bench:
    """Where the trials of one entry run: its processes, its data, who scores and records them, and on how many slots.

    ``study`` is the key that its fits are recorded under, ``time_limit`` the seconds for one fit with its predictions.
    Fits that failed in an earlier ``attempt`` are done again.
    """

    crew: Crew
    data: FitData
    scorer: Scorer
    store: Store
    study: str
    attempt: int
    time_limit: float
    slots: Slots
    watcher: Watcher


J = TypeVar("J")


def in_parallel(jobs: Sequence[J], run: Callable[[J, str], None], bench: Bench) -> None:
    """Run jobs, as many at once as there are slots, each with its device. Any error ends the crew and comes out here."""
    free: queue.SimpleQueue[str] = queue.SimpleQueue()
    for device in bench.slots.devices:
        free.put(device)

    def one(job: J) -> None:
        device = free.get()
        try:
            run(job, device)
        finally:
            free.put(device)

    with ThreadPoolExecutor(len(bench.slots.devices)) as threads:
        futures = [threads.submit(one, job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:  # Ctrl-C too: nothing may wait for a fit that nobody wants any more
            for future in futures:
                future.cancel()
            bench.crew.close()
            raise


def search(bench: Bench, description: Description, *, n_trials: int, timeout: float | None = None) -> Found:
    """Run trials 0..n_trials-1, those on record excepted, and name the best. Raises TrialFailed where none succeeded."""
    recorded = [
        fit
        for fit in bench.store.fits(bench.study, "search")
        if fit.number < n_trials and (fit.status in ("complete", "pruned") or fit.attempt == bench.attempt)
    ]
    study = Study(description, higher_is_better=bench.scorer.task.ranking.higher_is_better)
    for fit in recorded:
        study.restore(fit)
    fits = {fit.number: fit for fit in recorded}
    lock = threading.Lock()
    ends = time.monotonic() + timeout if timeout else math.inf
    bench.watcher.trial(len(fits), n_trials, best_value(fits.values(), study.sign))

    def hopeless() -> bool:
        return len(fits) >= GIVE_UP_AFTER and all(fit.status not in ("complete", "pruned") for fit in fits.values())

    def run(number: int, device: str) -> None:
        with lock:
            if time.monotonic() > ends or hopeless():
                return
            trial = study.ask(number)
        started = time.monotonic()
        losses: list[float | None] = []
        steps = itertools.count(1)

        def on_report(loss: float) -> bool:
            with lock:
                finite = math.isfinite(loss)
                step = next(steps)
                if step <= MOST_REPORTS:
                    losses.append(loss if finite else None)
                    if finite:
                        trial.report(loss, step)
                        return bool(trial.should_prune())
                return False

        status, value = "complete", None
        facts: dict[str, Any] = {}
        try:
            with bench.crew.first.trial(
                trial.params, bench.data, seed=SEARCH_SEED, device=device, time_limit=bench.time_limit
            ) as running:
                running.fit(on_report)
                value = bench.scorer.valid(bench.scorer.ask(running, bench.scorer.data.valid, f"search {number}")[0])
        except TrialPruned:
            status = "pruned"
        except TrialFailed as error:
            status, facts = error.status, {"error": str(error)}
        if bench.crew.closed:
            return  # ended from here, not by itself: not a result
        with lock:
            rungs = study.tell(trial, status, value)
            facts |= {"seconds": time.monotonic() - started, "losses": losses, "rungs": rungs}
            fits[number] = Fit(bench.study, "search", number, trial.params, bench.attempt, status, value, facts)
            bench.store.add_fit(fits[number])
            bench.watcher.trial(len(fits), n_trials, best_value(fits.values(), study.sign))

    in_parallel([number for number in range(n_trials) if number not in fits], run, bench)
    return outcome([fits[number] for number in sorted(fits)], study.sign)


def best_value(fits: Any, sign: float) -> float | None:
    values = [fit.value for fit in fits if fit.status == "complete"]
    return min(values, key=lambda value: sign * value) if values else None


def outcome(fits: Sequence[Fit], sign: float) -> Found:
    """What a search found; the first of equals. Raises TrialFailed with the first failure where nothing succeeded."""
    complete = [fit for fit in fits if fit.status == "complete"]
    failed = [fit for fit in fits if fit.status not in ("complete", "pruned")]
    if not complete:
        if failed:
            raise TrialFailed(failed[0].status, str(failed[0].facts.get("error")))
        raise TrialFailed("timeout", "no trial was finished in the time given; raise --timeout")
    best = min(complete, key=lambda fit: sign * (fit.value if fit.value is not None else math.inf))
    return Found(
        best.params,
        best.value,
        len(fits),
        sum(fit.status == "pruned" for fit in fits),
        len(failed),
        sum(fit.facts.get("seconds", 0.0) for fit in fits),
    )


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two sets of parameters are the same record."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
