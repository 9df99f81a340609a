"""Coordinator of a search: it suggests trials, runs them, tells the sampler of their ends, and promotes or prunes them.

It joins the four parts of a search: sampler, fidelity policy, history and runner. The modules above it, `blocks` and `cohorts`,
decide in which order trials run and how many run together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from harness.dispatch import RunContext, run_parallel
from harness.search.fidelity import FidelityPolicy
from harness.search.history import TrialHistory
from harness.search.low_fidelity import RECHECKED_TRIALS
from harness.search.sampler import KEPT_BEST, KEPT_OTHERS, MAX_OBSERVATIONS, Sampler
from harness.search.subsets import FULL_FIDELITY
from harness.search.trial import RunningTrial
from harness.search.trial_runner import TrialRunner
from leaderboard.result import Status

SLOW_FIT_SECONDS = 1.0
"""Seconds of a fit from which on it pays to use a slower sampler and to suggest fewer trials at a time."""

Run = Callable[[Sequence[int], int], object]
"""Function that runs trials, given by their numbers, at one fidelity."""


class Coordinator:
    """Coordinator of one search: it suggests, runs, promotes, prunes and records the trials."""

    def __init__(self, context: RunContext, sampler: Sampler, policy: FidelityPolicy, history: TrialHistory) -> None:
        self.context, self.sampler, self.policy, self.history = context, sampler, policy, history
        self.runner = TrialRunner(context, history, policy, self.record)
        self.tell_at_once = True
        """True if the sampler is told of each trial as soon as it ends; False if it is told after each block."""
        self.observed: set[int] = set()
        """Numbers of the trials that the sampler was told of."""
        self.noted_subsample = False

    @property
    def is_slow(self) -> bool:
        """True if a trial takes `SLOW_FIT_SECONDS` or more, as a mean over promoted and other trials."""
        return self.history.trial_seconds >= SLOW_FIT_SECONDS

    @property
    def has_slow_fits(self) -> bool:
        """True if a full fit takes `SLOW_FIT_SECONDS` or more."""
        return self.history.full_fit_seconds >= SLOW_FIT_SECONDS

    def suggest(self, numbers: Sequence[int]) -> None:
        """Suggest hyperparameters for trials, and add these trials to the running ones of the history.

        Each suggestion uses all results, and also the pending trials where fits are slow. The caller does not hold the history's
        lock: a suggestion may take a tenth of a second, and running fits report meanwhile.
        """
        history = self.history
        with history.lock:
            params: dict[int, Mapping[str, Any]] = {number: fit.params for number, fit in history.fits.items()}
            params |= {number: trial.params for number, trial in history.running.items()}
            self.sampler.set_predictions(self.policy.predictions(params))
        for number in numbers:
            with history.lock:
                pending = [one.params for other, one in history.running.items() if not self.policy.is_rejected(other)]
                compute_params, full_fidelity = self.sampler.suggest(number, pending if self.has_slow_fits else None)
            suggested = compute_params()
            with history.lock:
                history.running[number] = RunningTrial(suggested, full_fidelity)

    def sync(self) -> None:
        """Load the trials that other commands have recorded, and tell the sampler of them.

        Calls within `POLL_SECONDS` of the last load do nothing.
        """
        with self.history.lock:
            if self.history.sync():
                self.tell_all()

    def tell_all(self) -> None:
        """Tell the sampler, in order of number, of all recorded trials that it was not told of."""
        for number in sorted(set(self.history.fits) - self.observed):
            self.tell(number)

    def tell(self, number: int) -> None:
        """Tell the sampler of a recorded trial, at most once. Note in the progress when the sampler begins to subsample."""
        if number in self.observed:
            return
        self.observed.add(number)
        self.sampler.tell(self.history.fits[number])
        if self.sampler.is_subsampled and not self.noted_subsample:
            self.noted_subsample = True
            self.context.progress.note(
                f"more than {MAX_OBSERVATIONS} trials: from here on the sampler goes by the best {KEPT_BEST} and a spread of "
                f"{KEPT_OTHERS} others, so that a question does not cost more and more; all stay on record"
            )

    def record(self, number: int, status: str) -> None:
        """Record a running trial as ended with ``status``, tell the sampler if ``tell_at_once``, and report progress."""
        if not self.history.record(number, status):
            return
        with self.history.lock:
            if self.tell_at_once:
                self.tell(number)
            self.history.report_progress()

    def run_one(self, number: int, device: str, only_fidelity: int | None = None) -> None:
        """Run one trial alone on a slot: through all fidelities, or only at ``only_fidelity``.

        A trial that does not run yet is claimed and suggested first. Nothing is run if it is on record or another command has
        claimed it.
        """
        if number not in self.history.running:
            if not self.history.claim([number]):
                return
            self.sync()
            self.suggest([number])
        self.runner.run_alone(number, device, only_fidelity)

    def run_each(self, numbers: Sequence[int], fidelity: int) -> None:
        """Run trials at one fidelity, each in its own fork, as many at a time as there are slots."""
        run_parallel(numbers, partial(self.run_one, only_fidelity=fidelity), self.context)

    def split_by_fidelity(self, numbers: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return the numbers of the running trials that start with a full fit, and of the trials that start at low fidelity."""
        running, low = self.history.running, self.policy.uses_low_fidelity
        full = [number for number in numbers if running[number].full_fidelity or not low]
        return full, [number for number in numbers if number not in full]

    def at_low_fidelity(self, numbers: Sequence[int]) -> list[int]:
        """Return the trials in ``numbers`` that still run and have had their first low-fidelity fit."""
        running = self.history.running
        return [number for number in numbers if number in running and 1 in running[number].partial]

    def calibrate(self, numbers: Sequence[int], run: Run) -> None:
        """Fit a few low-fidelity trials again with twice the budget, unless it is known whether the low fidelity is reliable.

        ``run`` runs these fits. If the low fidelity proves unreliable, the progress notes it.
        """
        low = self.policy.low_fidelity
        if low is not None and low.is_reliable is None:
            run(self.at_low_fidelity(numbers)[:RECHECKED_TRIALS], 2)
            if low.is_reliable is False:
                self.context.progress.note(
                    "short fits do not predict full fits on this task; all trials are now fitted fully"
                )

    def promote(self, numbers: Sequence[int]) -> list[int]:
        """Return the numbers of the low-fidelity trials to promote to a full fit; none if the search has no low fidelity.

        All trials with a low-fidelity fit are promoted if the low fidelity is not known to be reliable or the search should stop.
        """
        low = self.policy.low_fidelity
        if low is None:
            return []
        candidates = self.at_low_fidelity(numbers)
        if self.history.should_stop() or not low.is_reliable:
            return candidates
        with self.history.lock:
            promoted = self.policy.promote(candidates)
        return [number for number in candidates if number in promoted]

    def prune_rejected(self, rejected: Sequence[int], run: Run) -> None:
        """Prune the rejected trials, after the full fits of the promoted ones.

        For each promoted trial that failed, the best rejected trial is promoted first, and ``run`` runs its full fit.
        """
        rejected, low = self.at_low_fidelity(rejected), self.policy.low_fidelity
        while low is not None and rejected and not self.history.should_stop():
            with self.history.lock:
                chosen = low.promote_next(rejected)
            if not chosen:
                break
            run(sorted(chosen), FULL_FIDELITY)
            rejected = [number for number in rejected if number not in chosen]
        for number in rejected:
            self.record(number, Status.PRUNED)
