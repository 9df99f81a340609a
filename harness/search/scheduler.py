"""Scheduler of a search: decides which trials run, where, at which fidelity, and in which order.

Submissions with a vectorized fit get a block of suggestions at once. The block is split over the slots; trials that cannot be
vectorized, or had better not be, run alone. Slow trials are suggested in small chunks, one chunk a slot at a time.

Submissions with a budget get low-fidelity trials first, and the best trials a full fit. Submissions that report no losses and are
slow are first fitted on subsets of the training split.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial

from harness.dispatch import POLL_SECONDS, RunContext, run_parallel
from harness.errors import SlotLost
from harness.frameworks.batch import POSTPONED
from harness.plugins.description import Description
from harness.search.asha import REDUCTION_FACTOR
from harness.search.history import SLOW_FIT_SECONDS, SearchConfig
from harness.search.low_fidelity import RECHECKED_TRIALS
from harness.search.outcome import SearchResult, summarize
from harness.search.subsets import FULL_FIDELITY, MIN_SUBSET_ROWS
from harness.search.trial_runner import TrialRunner

COHORT_SIZE = 10
"""Trials that go through the rungs together: the sampler's first so many suggestions are random anyway."""

BLOCK_SIZE = 64
"""Suggestions in a block of vectorized trials."""

MIN_CHUNK, MAX_CHUNK, CHUNK_SECONDS = 8, 32, 20.0
"""Bounds on the chunk size for slow trials, and the seconds that a chunk should take."""


class Search(TrialRunner):
    """Search for the best hyperparameters of one entry. Recorded trials are not run again."""

    def __init__(
        self,
        context: RunContext,
        description: Description,
        *,
        n_trials: int,
        timeout: float | None = None,
        config: SearchConfig | None = None,
    ) -> None:
        super().__init__(context, description, n_trials, timeout, config or SearchConfig())
        self.noted_waiting = False
        self.awaiting_full_fit: list[int] = []
        """Numbers of promoted trials whose full fit has not started."""

    def run(self) -> SearchResult:
        """Run all trials and return the result. Raises TrialFailed if no trial succeeds."""
        try:
            return self.run_all()
        finally:
            self.leases.close()
            for data in self.subsets.values():
                data.close()

    def run_all(self) -> SearchResult:
        """Run all trials: vectorized blocks, then slow chunks or cohorts, then whatever is left one by one."""
        self.report_progress()
        number = 0
        while self.vectorized and number < self.n_trials and not self.should_stop():
            block = range(number, min(number + self.block_size(number), self.n_trials))
            number = self.run_block(block)
            if self.is_slow:
                break
        for number in sorted(self.fits):
            self.tell(number)
        if self.vectorized:
            self.run_slow_chunks()
        enough = self.low_fidelity is not None or len(self.context.scorer.data.train) >= MIN_SUBSET_ROWS
        if self.config.halving and enough and self.n_trials > 1:
            self.run_cohorts()
        while True:
            run_parallel(
                [number for number in range(self.n_trials) if number not in self.fits], self.run_alone, self.context
            )
            if len(self.fits) == self.n_trials or self.should_stop():
                break
            self.wait_for_others()
        return summarize([self.fits[number] for number in sorted(self.fits)], self.sampler.sign)

    def wait_for_others(self) -> None:
        """Wait a moment for other commands that run the remaining trials, and load the trials that they have recorded."""
        if not self.noted_waiting:
            self.noted_waiting = True
            left = self.n_trials - len(self.fits)
            self.context.progress.note(f"{left} trials are being run by another command; waiting for them")
        time.sleep(POLL_SECONDS)
        with self.lock:
            self.load_recorded()
            self.report_progress()

    def block_size(self, number: int) -> int:
        """Return the size of the block that starts at this trial.

        It is small for the first low-fidelity trials, which calibrate, and for slow ones, so that suggestions use earlier results.
        """
        return (
            self.startup_trials
            if self.uses_low_fidelity and (number == 0 or self.full_fit_seconds >= SLOW_FIT_SECONDS)
            else BLOCK_SIZE
        )

    def run_slow_chunks(self) -> None:
        """Run the remaining, slow trials in chunks: each slot gets a chunk of new suggestions as soon as it is free."""
        self.tell_at_once = True
        left = [number for number in range(self.n_trials) if number not in self.fits]

        def run_chunk(numbers: Sequence[int], device: str) -> None:
            """Run one chunk on one slot through both fidelities."""
            if self.should_stop():
                return
            claimed = self.claim(numbers)
            with self.lock:
                self.sync()
            self.suggest([number for number in claimed if number not in self.running])
            full, low = self.split_by_fidelity(claimed)

            def run(numbers: Sequence[int], fidelity: int) -> None:
                for number in sorted(self.run_or_explain(numbers, device, len(numbers), fidelity)):
                    self.run_alone(number, device, only_fidelity=fidelity)

            run(low, 1)
            promoted = self.promote(low)
            run(sorted([*full, *promoted]), FULL_FIDELITY)
            self.prune_rejected([number for number in low if number not in promoted], run)

        size = min(max(int(CHUNK_SECONDS / max(self.trial_seconds, 1e-3)), MIN_CHUNK), MAX_CHUNK)
        run_parallel([left[start : start + size] for start in range(0, len(left), size)], run_chunk, self.context)

    def run_block(self, numbers: range) -> int:
        """Run a block of trials on all slots; return the number of the next trial to suggest.

        The whole block is suggested before any result, so that an interrupted block gets the same suggestions again.
        """
        claimed = self.claim(numbers)
        self.suggest(claimed)
        full, low = self.split_by_fidelity(claimed)
        postponed = self.run_on_slots(low, 1) if self.uses_low_fidelity else self.run_on_slots(full, FULL_FIDELITY)
        if self.vectorized and self.uses_low_fidelity:
            self.calibrate(low, self.run_on_slots)
            promoted = self.promote(low)
            self.awaiting_full_fit += sorted([*full, *promoted])
            # A vectorized fit of few members costs as much as one of many: after the first block of fast trials, promoted ones
            # wait for those of the next block.
            if (
                not self.uses_low_fidelity
                or numbers.start
                or numbers.stop == self.n_trials
                or self.full_fit_seconds >= SLOW_FIT_SECONDS
            ):
                self.run_on_slots(self.awaiting_full_fit, FULL_FIDELITY)
                self.awaiting_full_fit = []
            self.prune_rejected([number for number in low if number not in promoted], self.run_on_slots)
        if not self.vectorized:
            self.tell_at_once = True
            self.running.clear()  # suggested again one by one, each with all results by then
            self.awaiting_full_fit.clear()
            return numbers.stop
        for number in sorted(self.fits):
            self.tell(number)
        return min(postponed, default=numbers.stop)

    def run_on_slots(self, numbers: Sequence[int], fidelity: int) -> list[int]:
        """Run trials at one fidelity, one chunk a slot; return the numbers of postponed trials, to be suggested again.

        Trials that could not be vectorized, or had better not be, run alone on slots that are free. If a chunk would take long,
        only a few of its trials run, and the others are postponed to the next block. If no trial of a new block could be
        vectorized, `vectorized` becomes False.
        """
        slots = len(self.context.slots.devices)
        new = not any(self.running[number].partial for number in numbers)
        max_members = max(self.startup_trials // slots, 2) if new else len(numbers)
        chunks = [chunk for start in range(slots) if (chunk := numbers[start::slots])]
        postponed: list[int] = []
        pending_chunks = {chunk[0] for chunk in chunks if len(chunk) > 1}
        alone = [chunk[0] for chunk in chunks if len(chunk) == 1]
        n_alone = len(alone)

        def run_chunk(chunk: Sequence[int], device: str) -> None:
            """Run a chunk vectorized, then trials of any chunk that have to run alone."""
            nonlocal n_alone
            if chunk[0] in pending_chunks:
                reasons = self.run_or_explain(chunk, device, max_members, fidelity)
                with self.lock:
                    for number in chunk[max_members:]:  # never the whole chunk: each block makes progress
                        if reasons.get(number) is POSTPONED:
                            del reasons[number], self.running[number]
                            postponed.append(number)
                    alone.extend(sorted(reasons))
                    n_alone += len(reasons)
                    pending_chunks.remove(chunk[0])
                    self.vectorized = not new or n_alone < len(numbers)
            while True:
                with self.lock:
                    if not alone or (new and not pending_chunks):
                        return
                    number = alone.pop(0)
                try:
                    self.run_alone(number, device, only_fidelity=fidelity)
                except SlotLost:
                    with self.lock:
                        alone.append(number)
                    raise

        run_parallel(chunks, run_chunk, self.context)
        if self.vectorized:
            self.run_each(sorted(alone), fidelity)
        return postponed

    def run_each(self, numbers: Sequence[int], fidelity: int) -> None:
        """Run trials at one fidelity on all slots, each in its own fork."""
        run_parallel(numbers, partial(self.run_alone, only_fidelity=fidelity), self.context)

    def split_by_fidelity(self, numbers: Sequence[int]) -> tuple[list[int], list[int]]:
        """Split trials into those that start with a full fit and those that start at low fidelity."""
        full = [number for number in numbers if self.running[number].full_fidelity or not self.uses_low_fidelity]
        return full, [number for number in numbers if number not in full]

    def calibrate(self, numbers: Sequence[int], run: Callable[[Sequence[int], int], object]) -> None:
        """Run a few low-fidelity trials again with twice the budget, if it is unknown yet whether the low fidelity is reliable."""
        assert self.low_fidelity is not None
        if self.low_fidelity.is_reliable is None:
            fitted = [number for number in numbers if number in self.running and 1 in self.running[number].partial]
            run(fitted[:RECHECKED_TRIALS], 2)
            if self.low_fidelity.is_reliable is False:
                self.context.progress.note(
                    "short fits do not predict full fits on this task; all trials are now fitted fully"
                )

    def promote(self, numbers: Sequence[int]) -> list[int]:
        """Return the low-fidelity trials to promote to a full fit: all if the low fidelity is not reliable or time is up.

        Trial 0, the plug-in's defaults, is always promoted: no search ends below what its author knew.
        """
        if self.low_fidelity is None:
            return []
        fitted = [number for number in numbers if number in self.running and 1 in self.running[number].partial]
        if self.should_stop() or not self.low_fidelity.is_reliable:
            return fitted
        with self.lock:
            chosen = self.low_fidelity.promote(fitted) | {0}
        return [number for number in fitted if number in chosen]

    def prune_rejected(self, rejected: Sequence[int], run: Callable[[Sequence[int], int], object]) -> None:
        """Prune rejected trials after the full fits of the promoted ones; for each that failed, promote the next best first."""
        rejected = [number for number in rejected if number in self.running and 1 in self.running[number].partial]
        while self.low_fidelity is not None and rejected and not self.should_stop():
            with self.lock:
                chosen = self.low_fidelity.promote_next(rejected)
            if not chosen:
                break
            run(sorted(chosen), FULL_FIDELITY)
            rejected = [number for number in rejected if number not in chosen]
        for number in rejected:
            self.record(number, "pruned")

    def run_cohorts(self) -> None:
        """Run trials through the rungs in cohorts of ten: low-fidelity trials run alone, or slow trials on subsets.

        All of a cohort run at the lowest fidelity, the best of them at the next. Full fits run while the next cohort does.
        """
        with ThreadPoolExecutor() as threads:
            cohorts: list[tuple[list[Future[None]], list[int]]] = []

            def start_full_fit(full_fits: list[Future[None]], number: int) -> None:
                full_fits.append(threads.submit(self.run_each, [number], FULL_FIDELITY))

            def prune_finished_cohorts() -> None:
                """Prune the rejected trials of each cohort whose full fits are all done."""
                for cohort in [cohort for cohort in cohorts if all(fit.done() for fit in cohort[0])]:
                    cohorts.remove(cohort)
                    for fit in cohort[0]:
                        fit.result()
                    self.prune_rejected(cohort[1], self.run_each)

            for start in range(0, self.n_trials, COHORT_SIZE):
                if (self.on_subsets is False and not self.uses_low_fidelity) or self.should_stop():
                    break
                left = [
                    number
                    for number in range(start, min(start + COHORT_SIZE, self.n_trials))
                    if number not in self.fits
                ]
                if left and (claimed := self.claim(left)):
                    prune_finished_cohorts()
                    self.suggest([number for number in claimed if number not in self.running])
                    full_fits: list[Future[None]] = []
                    rejected = self.run_rungs(claimed, partial(start_full_fit, full_fits))
                    cohorts.append((full_fits, rejected))
            wait([fit for fits, _ in cohorts for fit in fits])
            prune_finished_cohorts()
        if time.monotonic() > self.deadline:
            started = [trial for trial in self.running.values() if 1 in trial.partial]
            fidelity = 1 if self.low_fidelity is not None else max((max(trial.partial) for trial in started), default=1)
            furthest = [trial for trial in started if fidelity in trial.partial]
            self.overtime_trial = min(furthest, key=lambda trial: trial.partial[fidelity], default=None)

    def run_rungs(self, numbers: Sequence[int], start_full_fit: Callable[[int], None]) -> list[int]:
        """Run trials through the low fidelities and start the full fits of promoted ones; return the rejected trials.

        Trials that lose at a subset rung are pruned here, and not returned.
        """
        rejected: list[int] = []
        if self.low_fidelity is not None:
            full, numbers = self.split_by_fidelity(numbers)
            for number in full:
                start_full_fit(number)
        for fidelity in (1, REDUCTION_FACTOR) if self.low_fidelity is None else (1,):
            if len(numbers) < 2 and self.n_trials <= COHORT_SIZE:
                break  # no other trial to compare it with
            self.run_each(numbers, fidelity)
            if self.low_fidelity is not None:
                self.calibrate(numbers, self.run_each)
                promoted = self.promote(numbers)
                if not self.uses_low_fidelity:
                    return rejected
                rejected = [number for number in numbers if number not in promoted]
                numbers = promoted
                continue
            if not self.on_subsets:
                return rejected
            with self.lock:
                partials = {number: self.running[number].partial for number in numbers if number in self.running}
                losses = {
                    number: by_fidelity[fidelity] for number, by_fidelity in partials.items() if fidelity in by_fidelity
                }
                losers = self.subset_rungs.losers(fidelity, losses)
            for number in sorted(losers):
                if number == 0:
                    start_full_fit(number)
                else:
                    self.record(number, "pruned")
            numbers = sorted(set(losses) - losers)
        for number in numbers:
            start_full_fit(number)
        return rejected
