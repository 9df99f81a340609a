"""History of a search: running trials, recorded trials, and the leases by which several commands share the trials."""

from __future__ import annotations

import math
import threading
import time
from bisect import insort
from collections.abc import Sequence

from harness.dispatch import POLL_SECONDS, RunContext
from harness.search.fidelity import FidelityPolicy
from harness.search.low_fidelity import LOW_FIDELITY
from harness.search.trial import RunningTrial
from leaderboard.result import Status
from leaderboard.store.facts import TrialFacts
from leaderboard.store.store import Fit

GIVE_UP_AFTER_FAILURES = 3
"""Failed trials after which the search stops if no trial has succeeded."""


class TrialHistory:
    """Running and recorded trials, with numbers 0 to n_trials - 1, of one entry's search.

    Threads that share the history hold its lock, but never while the store writes. The policy learns of each trial that ends or is
    loaded. From ``timeout`` seconds after its creation on, no new trials start. Close the history when done, so that its leases
    end.
    """

    def __init__(self, context: RunContext, policy: FidelityPolicy, n_trials: int, timeout: float | None) -> None:
        self.context, self.policy, self.n_trials = context, policy, n_trials
        self.running: dict[int, RunningTrial] = {}
        self.fits: dict[int, Fit] = {}
        self.lock = threading.Lock()
        self.deadline = time.monotonic() + timeout if timeout else math.inf
        self.best: float | None = None
        self.full_fit_times: list[float] = []
        """Seconds of each complete trial, all its fits together, sorted."""
        self.leases = context.store.leases(context.study_key, "search")
        self.last_sync = 0.0
        self.ignored_fits = 0
        """Number of recorded fits that are not loaded: failures of earlier attempts, and trials beyond the last of this search."""
        self.load()

    def close(self) -> None:
        self.leases.close()

    def load(self, numbers: Sequence[int] | None = None) -> None:
        """Load recorded trials from the store, all or only ``numbers``, and pass them to the policy.

        An earlier command has recorded them, or another command that shares the store. Failed trials of an earlier attempt are left
        out, so that they run again.
        """
        for fit in self.context.store.fits(self.context.study_key, "search", numbers):
            if fit.number in self.fits or fit.number >= self.n_trials:
                continue
            if fit.status in (Status.COMPLETE, Status.PRUNED) or fit.attempt == self.context.attempt:
                self.add(fit)
                self.policy.load(fit)

    def claim(self, numbers: Sequence[int]) -> list[int]:
        """Lease trials; return the sorted numbers of the trials to run here, which are neither recorded nor leased by another
        command."""
        leased = self.leases.claim(number for number in numbers if number not in self.fits)
        with self.lock:
            self.load(sorted(leased))
            return sorted(number for number in leased if number not in self.fits)

    def sync(self) -> bool:
        """Load trials that other commands have recorded, at most every `POLL_SECONDS`; return whether there may be new ones.

        The caller holds the lock.
        """
        if time.monotonic() - self.last_sync < POLL_SECONDS:
            return False
        self.last_sync = time.monotonic()
        count = self.context.store.count_fits(self.context.study_key, "search")
        if count - len(self.fits) <= self.ignored_fits:
            return False
        self.load()
        self.ignored_fits = count - len(self.fits)
        return True

    def add(self, fit: Fit) -> None:
        """Add a recorded trial, and update the best score and the times of full fits."""
        self.fits[fit.number] = fit
        if fit.status == Status.COMPLETE and fit.value is not None:
            sign = self.policy.sign
            self.best = fit.value if self.best is None or sign * fit.value < sign * self.best else self.best
            insort(self.full_fit_times, TrialFacts.of(fit).seconds)

    def record(self, number: int, status: str) -> bool:
        """Record in the store that a running trial ended with ``status``; return True if this call has recorded it.

        It has not if this command itself ended the fit, or if another command has taken over the lease. The caller does not hold
        the lock. While the store writes, the lock is free and the trial counts as running.
        """
        context, trial = self.context, self.running[number]
        if context.workers.closed:
            return False  # this command ended the fit, so it has no result
        losses = [loss if math.isfinite(loss) else None for loss in trial.losses]
        with self.lock:
            self.policy.record_end(number, trial, status)
            facts = self.policy.facts(trial, losses)
        key, attempt, value = context.study_key, context.attempt, trial.value
        fit = Fit(key, "search", number, dict(trial.params), attempt, status, value, facts.stored())
        if not context.store.add_fit(fit, self.leases[number]):
            return False  # the lease expired while this machine slept: another command runs and records the trial
        with self.lock:
            self.add(fit)
            del self.running[number]
        return True

    def should_stop(self) -> bool:
        """Tell whether no more trials may start: the deadline is past, or at least `GIVE_UP_AFTER_FAILURES` trials ended and all
        failed."""
        fits = list(self.fits.values())
        hopeless = len(fits) >= GIVE_UP_AFTER_FAILURES and all(
            fit.status not in (Status.COMPLETE, Status.PRUNED) for fit in fits
        )
        hopeless = hopeless and not any(trial.partial for trial in list(self.running.values()))
        return hopeless or time.monotonic() > self.deadline

    @property
    def full_fit_seconds(self) -> float:
        """Median seconds of a complete trial (with a vectorized fit, its share of that), low-fidelity fits included.

        Before the first complete trial it is an estimate from low-fidelity fits; 0 if there are none.
        """
        if self.full_fit_times:
            return self.full_fit_times[len(self.full_fit_times) // 2]
        times = self.policy.low_fidelity_times
        return times[len(times) // 2] / LOW_FIDELITY if times else 0.0

    @property
    def trial_seconds(self) -> float:
        """Estimated mean seconds of a trial, over promoted trials and others; 0 if unknown."""
        return self.full_fit_seconds * self.policy.share_of_full_fit

    def report_progress(self) -> None:
        """Report the best score and the number of trials that are recorded or have had a low-fidelity fit. The caller holds the
        lock."""
        low = self.policy.low_fidelity is not None
        partial = sum(1 in trial.partial for trial in self.running.values()) if low else 0
        self.context.progress.trial(len(self.fits) + partial, self.n_trials, self.best)
