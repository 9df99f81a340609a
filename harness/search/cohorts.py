"""Cohorts: trials that run alone go through the low fidelities ten at a time, and full fits run beside the next cohort."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial

from harness.search.coordinator import Coordinator
from harness.search.subsets import FULL_FIDELITY
from leaderboard.result import Status

COHORT_SIZE = 10
"""Number of trials that go through the low fidelities together. It costs no guidance: the sampler's first ten suggestions are
random anyway."""


class Cohorts:
    """Driver that runs the trials of a search in cohorts of `COHORT_SIZE`, which go through the low fidelities together.

    The low fidelities are shares of the budget, or subsets of the training split for slow trials without a budget.
    """

    def __init__(self, trials: Coordinator, n_trials: int) -> None:
        self.trials, self.n_trials = trials, n_trials
        self.history, self.policy = trials.history, trials.policy

    def run(self) -> None:
        """Run the trials cohort after cohort: all of a cohort at the lowest fidelity, the best of them at the next, up to full
        fits.

        Ends early if the trials have no use for a low fidelity or the search should stop. After the deadline, chooses the policy's
        ``overtime_trial``, which may still get a full fit.
        """
        with ThreadPoolExecutor() as threads:
            cohorts: list[tuple[list[Future[None]], list[int]]] = []

            def start_full_fit(full_fits: list[Future[None]], number: int) -> None:
                full_fits.append(threads.submit(self.trials.run_each, [number], FULL_FIDELITY))

            def prune_finished_cohorts() -> None:
                """Prune the rejected trials of each cohort whose full fits are all done. Raises the error of a full fit."""
                for cohort in [cohort for cohort in cohorts if all(fit.done() for fit in cohort[0])]:
                    cohorts.remove(cohort)
                    for fit in cohort[0]:
                        fit.result()
                    self.trials.prune_rejected(cohort[1], self.trials.run_each)

            for start in range(0, self.n_trials, COHORT_SIZE):
                skips = self.policy.on_subsets is False and not self.policy.uses_low_fidelity
                if skips or self.history.should_stop():
                    break
                cohort = range(start, min(start + COHORT_SIZE, self.n_trials))
                left = [number for number in cohort if number not in self.history.fits]
                if left and (claimed := self.history.claim(left)):
                    prune_finished_cohorts()
                    self.trials.suggest([number for number in claimed if number not in self.history.running])
                    full_fits: list[Future[None]] = []
                    rejected = self.run_rungs(claimed, partial(start_full_fit, full_fits))
                    cohorts.append((full_fits, rejected))
            wait([fit for fits, _ in cohorts for fit in fits])
            prune_finished_cohorts()
        if time.monotonic() > self.history.deadline:
            self.policy.overtime_trial = self.policy.furthest(self.history.running.values())

    def run_rungs(self, numbers: Sequence[int], start_full_fit: Callable[[int], None]) -> list[int]:
        """Run trials through the low fidelities; return the numbers of the trials that were rejected and are not pruned yet.

        ``start_full_fit`` is called with the number of each promoted trial. Trials that lose at a subset of the training split are
        pruned here, and not returned.
        """
        trials, policy, history = self.trials, self.policy, self.history
        rejected: list[int] = []
        if policy.low_fidelity is not None:
            full, numbers = trials.split_by_fidelity(numbers)
            for number in full:
                start_full_fit(number)
        for fidelity in policy.cohort_fidelities():
            if len(numbers) < 2 and self.n_trials <= COHORT_SIZE:
                break  # no other trial to compare it with
            trials.run_each(numbers, fidelity)
            if policy.low_fidelity is not None:
                trials.calibrate(numbers, trials.run_each)
                promoted = trials.promote(numbers)
                if not policy.uses_low_fidelity:
                    return rejected
                rejected = [number for number in numbers if number not in promoted]
                numbers = promoted
                continue
            if not policy.on_subsets:
                return rejected
            with history.lock:
                reached = [number for number in numbers if number in history.running]
                partials = {number: history.running[number].partial for number in reached}
                losses = {number: by[fidelity] for number, by in partials.items() if fidelity in by}
                losers = policy.subset_rungs.losers(fidelity, losses)
            for number in sorted(losers):
                if number == 0:
                    start_full_fit(number)
                else:
                    trials.record(number, Status.PRUNED)
            numbers = sorted(set(losses) - losers)
        for number in numbers:
            start_full_fit(number)
        return rejected
