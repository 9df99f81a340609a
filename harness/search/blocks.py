"""Vectorized trials: blocks of suggestions over all slots, and small chunks of slow trials."""

from __future__ import annotations

from collections.abc import Sequence

from harness.dispatch import RunContext, run_parallel
from harness.errors import SlotLost
from harness.frameworks.batch import POSTPONED
from harness.search.coordinator import Coordinator
from harness.search.subsets import FULL_FIDELITY

BLOCK_SIZE = 64
"""Suggestions in a block of vectorized trials."""

MIN_CHUNK, MAX_CHUNK, CHUNK_SECONDS = 8, 32, 20.0
"""Bounds on the chunk size for slow trials, and the seconds that a chunk should take."""


class VectorizedTrials:
    """Trials of a search that are fitted several at a time. `pays` becomes False if no trial of a new block can be."""

    def __init__(self, context: RunContext, trials: Coordinator, n_trials: int) -> None:
        self.context, self.trials, self.n_trials = context, trials, n_trials
        self.history, self.policy = trials.history, trials.policy
        self.pays = True
        self.awaiting_full_fit: list[int] = []
        """Numbers of promoted trials whose full fit has not started."""

    def run(self) -> None:
        """Run blocks until all trials have run or one block shows that they are slow; then run the rest in chunks."""
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
        """Return the size of the block that starts at this trial.

        It is small for the first low-fidelity trials, which calibrate, and for slow ones, so that suggestions use earlier results.
        """
        small = self.policy.uses_low_fidelity and (number == 0 or self.trials.has_slow_fits)
        return self.policy.startup_trials if small else BLOCK_SIZE

    def run_block(self, numbers: range) -> int:
        """Run a block of trials on all slots; return the number of the next trial to suggest.

        The whole block is suggested before any result, so that an interrupted block gets the same suggestions again.
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
        """Run trials at one fidelity, one chunk a slot; return the numbers of postponed trials, to be suggested again.

        Trials that could not be vectorized, or had better not be, run alone on slots that are free. If a chunk would take long,
        only a few of its trials run, and the others are postponed to the next block.
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
            """Run a chunk vectorized, then trials of any chunk that have to run alone."""
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
            """Run one chunk on one slot through both fidelities."""
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
