"""Vectorized trials of a search: fast trials run in blocks over all slots, and slow trials in small chunks, each on one slot."""

from __future__ import annotations

from collections.abc import Sequence

from harness.dispatch import RunContext, run_parallel
from harness.errors import SlotLost
from harness.frameworks.batch import POSTPONED
from harness.search.coordinator import Coordinator
from harness.search.subsets import FULL_FIDELITY

BLOCK_SIZE = 64
"""Largest number of trials in a block. The trials of a block are suggested together and run before the next block."""

MIN_CHUNK, MAX_CHUNK, CHUNK_SECONDS = 8, 32, 20.0
"""Bounds on the number of slow trials that are fitted together on one slot, and the seconds that they should take."""


class VectorizedTrials:
    """Driver that runs the trials of a search several at a time, in vectorized fits.

    ``pays`` becomes False if no trial of a new block can be vectorized. The remaining trials are then left to run one by one.
    """

    def __init__(self, context: RunContext, trials: Coordinator, n_trials: int) -> None:
        self.context, self.trials, self.n_trials = context, trials, n_trials
        self.history, self.policy = trials.history, trials.policy
        self.pays = True
        self.awaiting_full_fit: list[int] = []
        """Numbers of the trials that are to get a full fit and have not started it."""

    def run(self) -> None:
        """Run the trials in blocks, until all have run or a block shows that they are slow; then run the rest in chunks.

        Ends early, with trials left, if vectorized fits do not pay or the search should stop.
        """
        self.trials.tell_at_once = False
        number = 0
        while self.pays and number < self.n_trials and not self.history.should_stop():
            number = self.run_block(range(number, min(number + self.block_size(number), self.n_trials)))
            if self.trials.is_slow:
                break
        self.trials.tell_all()
        if self.pays:
            self.run_slow_chunks()

    def block_size(self, number: int) -> int:
        """Return the number of trials in the block that starts at trial ``number``.

        It is small for the first low-fidelity trials, which calibrate the low fidelity, and for slow low-fidelity trials, so that
        suggestions use earlier results.
        """
        small = self.policy.uses_low_fidelity and (number == 0 or self.trials.has_slow_fits)
        return self.policy.startup_trials if small else BLOCK_SIZE

    def run_block(self, numbers: range) -> int:
        """Run a block of trials on all slots; return the number of the trial at which the next block starts.

        This is the first postponed trial, or else the first after the block. The whole block is suggested before any result, so
        that an interrupted block gets the same suggestions again.
        """
        trials, policy = self.trials, self.policy
        claimed = self.history.claim(numbers)
        trials.suggest(claimed)
        full, low = trials.split_by_fidelity(claimed)
        postponed = self.run_on_slots(low, 1) if policy.uses_low_fidelity else self.run_on_slots(full, FULL_FIDELITY)
        if self.pays and policy.uses_low_fidelity:
            trials.calibrate(low, self.run_on_slots)
            promoted = trials.promote(low)
            self.awaiting_full_fit += sorted([*full, *promoted])
            # A vectorized fit of few members costs as much as one of many: after the first block of fast trials, promoted ones
            # wait for those of the next block.
            is_first_of_many = numbers.start == 0 and numbers.stop < self.n_trials
            if not policy.uses_low_fidelity or not is_first_of_many or trials.has_slow_fits:
                self.run_on_slots(self.awaiting_full_fit, FULL_FIDELITY)
                self.awaiting_full_fit = []
            trials.prune_rejected([number for number in low if number not in promoted], self.run_on_slots)
        if not self.pays:
            trials.tell_at_once = True
            self.history.running.clear()  # suggested again one by one, each with all results by then
            self.awaiting_full_fit.clear()
            return numbers.stop
        trials.tell_all()
        return min(postponed, default=numbers.stop)

    def run_on_slots(self, numbers: Sequence[int], fidelity: int) -> list[int]:
        """Run trials at one fidelity; return the numbers of the postponed trials, which are to be suggested again.

        ``fidelity`` is in tenths of the budget, or `FULL_FIDELITY`. Each slot fits its share of the trials, a chunk, together.
        Trials that cannot be vectorized, or had better not be, run alone on free slots. If a chunk of new trials would take long,
        only a few of them run, and the rest is postponed to the next block.
        """
        history, slots = self.history, len(self.context.slots.devices)
        new = not any(history.running[number].partial for number in numbers)
        max_members = max(self.policy.startup_trials // slots, 2) if new else len(numbers)
        chunks = [chunk for start in range(slots) if (chunk := numbers[start::slots])]
        postponed: list[int] = []
        pending_chunks = {chunk[0] for chunk in chunks if len(chunk) > 1}
        alone = [chunk[0] for chunk in chunks if len(chunk) == 1]
        n_alone = len(alone)

        def run_chunk(chunk: Sequence[int], device: str) -> None:
            """Run a chunk of trials in vectorized fits, then trials of any chunk that have to run alone."""
            nonlocal n_alone
            if chunk[0] in pending_chunks:
                reasons = self.trials.runner.run_or_explain(chunk, device, max_members, fidelity)
                with history.lock:
                    for number in chunk[max_members:]:  # never the whole chunk: each block makes progress
                        if reasons.get(number) is POSTPONED:
                            del reasons[number], history.running[number]
                            postponed.append(number)
                    alone.extend(sorted(reasons))
                    n_alone += len(reasons)
                    pending_chunks.remove(chunk[0])
                    self.pays = not new or n_alone < len(numbers)
            while True:
                with history.lock:
                    if not alone or (new and not pending_chunks):
                        return
                    number = alone.pop(0)
                try:
                    self.trials.run_one(number, device, only_fidelity=fidelity)
                except SlotLost:
                    with history.lock:
                        alone.append(number)
                    raise

        run_parallel(chunks, run_chunk, self.context)
        if self.pays:
            self.trials.run_each(sorted(alone), fidelity)
        return postponed

    def run_slow_chunks(self) -> None:
        """Run the remaining, slow trials in chunks: each slot gets a chunk of new suggestions as soon as it is free."""
        trials = self.trials
        trials.tell_at_once = True
        left = [number for number in range(self.n_trials) if number not in self.history.fits]

        def run_chunk(numbers: Sequence[int], device: str) -> None:
            """Run one chunk of trials on one slot: first at low fidelity if the search uses it, then full fits."""
            if self.history.should_stop():
                return
            claimed = self.history.claim(numbers)
            trials.sync()
            trials.suggest([number for number in claimed if number not in self.history.running])
            full, low = trials.split_by_fidelity(claimed)

            def run(numbers: Sequence[int], fidelity: int) -> None:
                for number in sorted(trials.runner.run_or_explain(numbers, device, len(numbers), fidelity)):
                    trials.run_one(number, device, only_fidelity=fidelity)

            run(low, 1)
            promoted = trials.promote(low)
            run(sorted([*full, *promoted]), FULL_FIDELITY)
            trials.prune_rejected([number for number in low if number not in promoted], run)

        size = min(max(int(CHUNK_SECONDS / max(self.history.trial_seconds, 1e-3)), MIN_CHUNK), MAX_CHUNK)
        run_parallel([left[start : start + size] for start in range(0, len(left), size)], run_chunk, self.context)
