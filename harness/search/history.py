"""State of a search: its recorded and its running trials, the sampler and the rungs, and leases on trial numbers.

Several commands that share a store share the trials of a search by these leases.
"""

from __future__ import annotations

import math
import threading
import time
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.dispatch import POLL_SECONDS, RunContext
from harness.plugins.description import Description
from harness.search.asha import FIRST_RUNG, Rungs, lowest_loss
from harness.search.low_fidelity import LOW_FIDELITY, MIN_PROMOTED, LowFidelity, Prediction
from harness.search.sampler import KEPT_BEST, KEPT_OTHERS, MAX_OBSERVATIONS, Sampler
from leaderboard.store.store import Fit

GIVE_UP_AFTER_FAILURES = 3
"""Failed trials after which the search stops if no trial has succeeded."""

SLOW_FIT_SECONDS = 1.0
"""Seconds of a fit from which on a slower sampler pays, and smaller batches of suggestions."""

MAX_STARTUP_TRIALS, MIN_STARTUP_TRIALS = 16, 6
"""Bounds on the number of startup trials: trials that run before any result guides the search."""


@dataclass(frozen=True)
class SearchConfig:
    """Settings of a search. A search with other settings is another search with its own trials.

    ``first`` are configurations to try right after the plug-in's defaults; ``seed`` seeds the sampler, not the fits; without
    ``halving`` every trial is a full fit.
    """

    first: Sequence[Mapping[str, Any]] = ()
    seed: int = 0
    halving: bool = True


@dataclass
class RunningTrial:
    """A suggested trial and its results so far.

    ``partial`` holds losses and ``reports`` numbers of reports by fidelity: ninths of the training split or tenths of the budget.
    ``losses`` are the reported losses of the full fit.
    """

    params: Mapping[str, Any]
    full_fidelity: bool = False
    """True if the trial skips the low fidelities."""
    partial: dict[int, float] = field(default_factory=dict)
    reports: dict[int, int] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    value: float | None = None
    seconds: float = 0.0


class TrialHistory:
    """Trials 0..n_trials-1 of one entry. Threads that share them hold its lock."""

    def __init__(
        self, context: RunContext, description: Description, n_trials: int, timeout: float | None, config: SearchConfig
    ) -> None:
        self.context, self.n_trials, self.config = context, n_trials, config
        higher = context.scorer.task.ranking.higher_is_better
        self.sampler = Sampler(description, higher_is_better=higher, first=config.first, seed=config.seed)
        self.low_fidelity: LowFidelity | None = None
        if description.budget and config.halving and n_trials >= 3 * MIN_PROMOTED:
            self.low_fidelity = LowFidelity(n_trials, description.space)
        self.subset_rungs = Rungs(1)
        self.on_subsets: bool | None = None if self.low_fidelity is None else False
        """True if the rungs are subsets of the training split; None until a trial has shown it."""
        self.running: dict[int, RunningTrial] = {}
        self.lock = threading.Lock()
        self.deadline = time.monotonic() + timeout if timeout else math.inf
        self.vectorized = description.vectorizable and context.workers.config.limits.cpu_seconds is None
        self.rungs = Rungs(FIRST_RUNG, MIN_STARTUP_TRIALS)
        self.fits: dict[int, Fit] = {}
        self.best: float | None = None
        self.full_fit_times: list[float] = []
        """Seconds of full fits, sorted."""
        self.low_fidelity_times: list[float] = []
        """Seconds of low-fidelity trials, sorted."""
        self.observed: set[int] = set()
        """Numbers of trials that the sampler was told of."""
        self.tell_at_once = not self.vectorized
        """True if the sampler is told of each trial when it ends, not of a whole block."""
        self.leases = context.store.leases(context.study_key, "search")
        self.last_sync, self.noted_subsample = 0.0, False
        self.ignored_fits = 0
        """Number of recorded fits that do not belong to this search: failures of earlier attempts, and numbers beyond its last."""
        self.load_recorded()

    def load_recorded(self, numbers: Sequence[int] | None = None) -> None:
        """Load recorded trials, all or these numbers: from an earlier command, or from another that shares the store."""
        for fit in self.context.store.fits(self.context.study_key, "search", numbers):
            if fit.number in self.fits or fit.number >= self.n_trials:
                continue
            if fit.status in ("complete", "pruned") or fit.attempt == self.context.attempt:
                self.add(fit)
                value = self.sampler.sign * fit.value if fit.status == "complete" and fit.value is not None else None
                self.rungs.restore(fit.number, fit.facts.get("losses", []), value)
                if self.low_fidelity is not None and fit.status in ("complete", "pruned"):
                    for key, loss in fit.facts.get("drafts", {}).items():
                        self.low_fidelity.record(fit.number, int(key), loss, fit.facts["tried"][key], fit.params)
                    if value is not None:
                        self.low_fidelity.record_final(fit.number, value, len(fit.facts.get("losses", [])))
                if fit.facts.get("losses"):
                    self.on_subsets = False
                for key, loss in fit.facts.get("parts", {}).items():
                    self.on_subsets = True
                    self.subset_rungs.losers(int(key), {fit.number: loss})

    @property
    def startup_trials(self) -> int:
        """Number of trials that run before any result guides the search: a quarter of all, within bounds."""
        return max(min(self.n_trials // 4, MAX_STARTUP_TRIALS), MIN_STARTUP_TRIALS)

    @property
    def uses_low_fidelity(self) -> bool:
        """True if trials get a low-fidelity fit before a full one."""
        return self.low_fidelity is not None and self.low_fidelity.is_reliable is not False

    def claim(self, numbers: Sequence[int]) -> list[int]:
        """Lease trials; return the numbers to run here: neither recorded nor leased by another command."""
        leased = self.leases.claim(number for number in numbers if number not in self.fits)
        with self.lock:
            self.load_recorded(sorted(leased))
            return sorted(number for number in leased if number not in self.fits)

    def sync(self) -> None:
        """Load the trials that other commands have recorded, at most every `POLL_SECONDS`. The caller holds the lock."""
        if time.monotonic() - self.last_sync < POLL_SECONDS:
            return
        self.last_sync = time.monotonic()
        count = self.context.store.count_fits(self.context.study_key, "search")
        if count - len(self.fits) > self.ignored_fits:
            self.load_recorded()
            self.ignored_fits = count - len(self.fits)
            for number in sorted(set(self.fits) - self.observed):
                self.tell(number)

    def suggest(self, numbers: Sequence[int]) -> None:
        """Add running trials with suggested hyperparameters, each in knowledge of all results and pending trials.

        The caller does not hold the lock: a suggestion may take a tenth of a second, and running fits report meanwhile.
        """
        with self.lock:
            self.sampler.set_predictions(self.predictions())
        for number in numbers:
            with self.lock:
                pending = [trial.params for other, trial in self.running.items() if not self.rejected(other)]
                compute_params, full_fidelity = self.sampler.suggest(
                    number, pending if self.full_fit_seconds >= SLOW_FIT_SECONDS else None
                )
            params = compute_params()
            with self.lock:
                self.running[number] = RunningTrial(params, full_fidelity)

    def rejected(self, number: int) -> bool:
        """Tell whether a running trial had its low-fidelity fit and was not promoted."""
        return (
            self.low_fidelity is not None
            and number in self.low_fidelity.losses[1]
            and number not in self.low_fidelity.promoted
        )

    def predictions(self) -> list[Prediction] | None:
        """Return the predicted final values; empty before enough full fits, None if trials skip the low fidelity."""
        if self.low_fidelity is None or not self.uses_low_fidelity:
            return None
        if not self.low_fidelity.can_predict:
            return []
        params: dict[int, Mapping[str, Any]] = {number: fit.params for number, fit in self.fits.items()}
        params |= {number: trial.params for number, trial in self.running.items()}
        predicted = self.low_fidelity.predict_final()
        return [
            Prediction(params[number], value, number in self.low_fidelity.finals)
            for number, value in predicted.items()
            if number in params
        ]

    def tell(self, number: int) -> None:
        """Tell the sampler of a finished trial, once; note when the sampler begins to subsample."""
        if number in self.fits and number not in self.observed:
            self.observed.add(number)
            self.sampler.tell(self.fits[number])
        if self.sampler.is_subsampled and not self.noted_subsample:
            self.noted_subsample = True
            self.context.progress.note(
                f"more than {MAX_OBSERVATIONS} trials: from here on the sampler goes by the best {KEPT_BEST} and a spread of "
                f"{KEPT_OTHERS} others, so that a question does not cost more and more; all stay on record"
            )

    def add(self, fit: Fit) -> None:
        """Add a finished trial."""
        self.fits[fit.number] = fit
        if fit.status == "complete" and fit.value is not None:
            sign = self.sampler.sign
            self.best = fit.value if self.best is None or sign * fit.value < sign * self.best else self.best
            insort(self.full_fit_times, float(fit.facts.get("seconds", 0.0)))

    def losers_at(self, step: int, reported: Mapping[int, Sequence[float]]) -> set[int]:
        """Return the numbers of the trials to prune at this report, given the losses that each has reported.

        Between rungs it returns at once: reports may be many.
        """
        if not self.config.halving or self.low_fidelity is not None or not self.rungs.is_rung(step):
            return set()
        return self.rungs.losers(step, {number: lowest_loss(losses) for number, losses in reported.items()})

    @property
    def full_fit_seconds(self) -> float:
        """Median seconds of a full fit (its share of a vectorized fit), or an estimate from low-fidelity trials; 0 if unknown."""
        if self.full_fit_times:
            return self.full_fit_times[len(self.full_fit_times) // 2]
        return (
            self.low_fidelity_times[len(self.low_fidelity_times) // 2] / LOW_FIDELITY
            if self.low_fidelity_times
            else 0.0
        )

    @property
    def trial_seconds(self) -> float:
        """Mean seconds of a trial, promoted or not."""
        return self.full_fit_seconds * (
            LOW_FIDELITY + self.low_fidelity.promoted_share
            if self.low_fidelity is not None and self.uses_low_fidelity
            else 1.0
        )

    @property
    def is_slow(self) -> bool:
        return self.trial_seconds >= SLOW_FIT_SECONDS

    def should_stop(self) -> bool:
        """Tell whether no more trials may start: the deadline is past, or the first trials have all failed."""
        fits = self.fits.values()
        hopeless = len(fits) >= GIVE_UP_AFTER_FAILURES and all(fit.status not in ("complete", "pruned") for fit in fits)
        hopeless = hopeless and not any(trial.partial for trial in list(self.running.values()))
        return hopeless or time.monotonic() > self.deadline

    def record(self, number: int, status: str) -> None:
        """Record a running trial as finished with this status, in the store and here."""
        context, trial = self.context, self.running[number]
        if context.workers.closed:
            return  # this command ended the fit, so it has no result
        losses = [loss if math.isfinite(loss) else None for loss in trial.losses]
        if trial.partial and self.low_fidelity is not None:
            trial.facts["drafts"] = {str(fidelity): value for fidelity, value in trial.partial.items()}
            trial.facts["tried"] = {str(fidelity): reports for fidelity, reports in trial.reports.items()}
        elif trial.partial and self.on_subsets:
            trial.facts["parts"] = trial.partial
        with self.lock:
            fit = Fit(
                context.study_key,
                "search",
                number,
                dict(trial.params),
                context.attempt,
                status,
                trial.value,
                {**trial.facts, "seconds": trial.seconds, "losses": losses},
            )
            if status == "complete":
                assert trial.value is not None, "complete trials have a value"
                self.rungs.record_final(number, len(losses), self.sampler.sign * trial.value)
                if self.low_fidelity is not None:
                    self.low_fidelity.record_final(number, self.sampler.sign * trial.value, len(losses))
            elif self.low_fidelity is not None and status != "pruned":
                self.low_fidelity.discard(number)
            if not context.store.add_fit(fit, self.leases[number]):
                return  # the lease expired while this machine slept: another command runs and records the trial
            self.add(fit)
            del self.running[number]
            if self.tell_at_once:
                self.tell(number)
            self.report_progress()

    def report_progress(self) -> None:
        """Report the number of trials with at least a low-fidelity fit, and the best score."""
        partial = 0 if self.low_fidelity is None else sum(1 in trial.partial for trial in self.running.values())
        self.context.progress.trial(len(self.fits) + partial, self.n_trials, self.best)
