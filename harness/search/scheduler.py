"""The search of one submission's hyperparameters: a study asked and told, trials run in forks, every result recorded.

Submissions that can be fitted together are: a block of configurations is asked for at once, shared out over the slots, and what a
slot's process could not or had better not train as one is run alone. Where that takes long, each slot asks for a few at a time.
Submissions that can take a share of their epochs are drafted first, and the best of them fitted whole; those that report no losses,
and take their time, are tried on parts of the training split.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial

from harness.contract import LATER
from harness.dispatch import LOOK, Bench, in_parallel
from harness.errors import SlotLost
from harness.plugins.description import Description
from harness.search.asha import FACTOR
from harness.search.history import SLOW, Manner
from harness.search.low_fidelity import TWICE
from harness.search.outcome import Found, outcome
from harness.search.subsets import ENOUGH, WHOLE
from harness.search.trial_runner import Runner

COHORT = 10
"""Trials that climb the parts of the training split together: at first the sampler draws as many blindly anyway."""

BLOCK = 64
"""Configurations that are asked for at once where they can be fitted together."""

SMALLEST, LARGEST, WORTH = 8, 32, 20.0
"""Of those that take long a slot asks for so many at a time, at least and at most: about so many seconds' worth."""


class Search(Runner):
    """Runs the trials of a ledger, those on record excepted."""

    def __init__(
        self,
        bench: Bench,
        description: Description,
        *,
        n_trials: int,
        timeout: float | None = None,
        manner: Manner | None = None,
    ) -> None:
        super().__init__(bench, description, n_trials, timeout, manner or Manner())
        self.waited = False
        self.arrived: list[int] = []
        """Trials that are worth a whole fit and wait for it."""

    def run(self) -> Found:
        """Run them, and name the best. Raises TrialFailed where none succeeded."""
        try:
            return self.all_of_them()
        finally:
            self.leases.close()
            for data in self.parts.values():
                data.close()

    def all_of_them(self) -> Found:
        self.show()
        number = 0
        while self.together and number < self.n_trials and not self.over():
            block = range(number, min(number + self.size(number), self.n_trials))
            number = self.block(block)
            if self.slow:
                break
        for number in sorted(self.fits):
            self.tell(number)
        if self.together:
            self.in_chunks()
        enough = self.drafts is not None or len(self.bench.scorer.data.train) >= ENOUGH
        if self.manner.halving and enough and self.n_trials > 1:
            self.in_cohorts()
        while True:
            in_parallel([number for number in range(self.n_trials) if number not in self.fits], self.alone, self.bench)
            if len(self.fits) == self.n_trials or self.over():
                break
            self.wait()
        return outcome([self.fits[number] for number in sorted(self.fits)], self.study.sign)

    def wait(self) -> None:
        """Others are at what is left: until they have recorded it, or have gone."""
        if not self.waited:
            self.waited = True
            left = self.n_trials - len(self.fits)
            self.bench.watcher.note(f"{left} trials are being run by another command; waiting for them")
        time.sleep(LOOK)
        with self.lock:
            self.adopt()
            self.show()

    def size(self, number: int) -> int:
        """How many questions are asked at once, from this one on: at first few, on which drafts are to prove themselves, and where
        trials are slow, so that each few learn from those before them."""
        return self.few if self.drafting and (number == 0 or self.seconds >= SLOW) else BLOCK

    def in_chunks(self) -> None:
        """Trials that take long: each slot asks for a few at a time, with all that is known by then, and waits for no other."""
        self.at_once = True
        left = [number for number in range(self.n_trials) if number not in self.fits]

        def chunk(numbers: Sequence[int], device: str) -> None:
            if self.over():
                return
            asked = self.claim(numbers)
            with self.lock:
                self.look_around()
            self.ask([number for number in asked if number not in self.begun])
            sure, drafted = self.parted(asked)

            def run(numbers: Sequence[int], step: int) -> None:
                for number in sorted(self.stacked(numbers, device, len(numbers), step)):
                    self.alone(number, device, only=step)

            run(drafted, 1)
            worthy = self.worthy(drafted)
            run(sorted([*sure, *worthy]), WHOLE)
            self.end([number for number in drafted if number not in worthy], run)

        size = min(max(int(WORTH / max(self.cost, 1e-3)), SMALLEST), LARGEST)
        in_parallel([left[start : start + size] for start in range(0, len(left), size)], chunk, self.bench)

    def block(self, numbers: range) -> int:
        """Trials whose questions are asked before any of them is answered, so that a block in pieces asks the same. The number
        that comes after them.
        """
        asked = self.claim(numbers)
        self.ask(asked)
        sure, drafted = self.parted(asked)
        later = self.shared_out(drafted, 1) if self.drafting else self.shared_out(sure, WHOLE)
        if self.together and self.drafting:
            self.prove(drafted, self.shared_out)
            worthy = self.worthy(drafted)
            self.arrived += sorted([*sure, *worthy])
            # Few in a stack cost what many do: the best of the first few, where they are quick, wait for those that come next.
            if not self.drafting or numbers.start or numbers.stop == self.n_trials or self.seconds >= SLOW:
                self.shared_out(self.arrived, WHOLE)
                self.arrived = []
            self.end([number for number in drafted if number not in worthy], self.shared_out)
        if not self.together:
            self.at_once = True
            self.begun.clear()  # asked again one by one, each with all that is known by then
            self.arrived.clear()
            return numbers.stop
        for number in sorted(self.fits):
            self.tell(number)
        return min(later, default=numbers.stop)

    def shared_out(self, asked: Sequence[int], step: int) -> list[int]:
        """These trials on one step, or whole, on all slots. Those that have to be asked again.

        What a chunk could not or had better not train as one is run alone by whichever slots have nothing better to do. Where a
        chunk would take long, a few of it are run, and the others are asked again in the next block. Where all of a block that is
        new are refused, nothing is stacked from then on.
        """
        slots = len(self.bench.slots.devices)
        new = not any(self.begun[number].parts for number in asked)
        few = max(self.few // slots, 2) if new else len(asked)
        chunks = [chunk for start in range(slots) if (chunk := asked[start::slots])]
        later: list[int] = []
        at_work = {chunk[0] for chunk in chunks if len(chunk) > 1}
        apart = [chunk[0] for chunk in chunks if len(chunk) == 1]
        refused = len(apart)

        def together(chunk: Sequence[int], device: str) -> None:
            nonlocal refused
            if chunk[0] in at_work:
                found = self.stacked(chunk, device, few, step)
                with self.lock:
                    for number in chunk[few:]:  # never all of them: each block gets on
                        if found.get(number) == LATER:
                            del found[number], self.begun[number]
                            later.append(number)
                    apart.extend(sorted(found))
                    refused += len(found)
                    at_work.remove(chunk[0])
                    self.together = not new or refused < len(asked)
            while True:
                with self.lock:
                    if not apart or (new and not at_work):
                        return
                    number = apart.pop(0)
                try:
                    self.alone(number, device, only=step)
                except SlotLost:
                    with self.lock:
                        apart.append(number)
                    raise

        in_parallel(chunks, together, self.bench)
        if self.together:
            self.one_by_one(sorted(apart), step)
        return later

    def one_by_one(self, numbers: Sequence[int], step: int) -> None:
        """These trials on one step, or whole, each in a fork of its own, on all slots."""
        in_parallel(numbers, partial(self.alone, only=step), self.bench)

    def parted(self, asked: Sequence[int]) -> tuple[list[int], list[int]]:
        """Those that are fitted whole at once, and those that are drafted first."""
        sure = [number for number in asked if self.begun[number].sure or not self.drafting]
        return sure, [number for number in asked if number not in sure]

    def prove(self, asked: Sequence[int], run: Callable[[Sequence[int], int], object]) -> None:
        """Draft a few of those that are drafted once more, where it is not known yet whether drafts tell anything."""
        assert self.drafts is not None
        if self.drafts.proven is None:
            drafted = [number for number in asked if number in self.begun and 1 in self.begun[number].parts]
            run(drafted[:TWICE], 2)
            if self.drafts.proven is False:
                self.bench.watcher.note(
                    "which trials are better depends here on how long they learn, so that short ones tell nothing of long ones: "
                    "from here on all are fitted whole"
                )

    def worthy(self, asked: Sequence[int]) -> list[int]:
        """Those of the drafted that are to be fitted whole: all where drafts are not heeded, or, for now, where the time is up.
        The plug-in's own guess goes on in any case: no search ends with less than its author knew."""
        if self.drafts is None:
            return []
        drafted = [number for number in asked if number in self.begun and 1 in self.begun[number].parts]
        if self.over() or not self.drafts.proven:
            return drafted
        with self.lock:
            chosen = self.drafts.choose(drafted) | {0}
        return [number for number in drafted if number in chosen]

    def end(self, others: Sequence[int], run: Callable[[Sequence[int], int], object]) -> None:
        """End those that were not worth a whole fit, once the others have had theirs: where such fits failed, who was next goes
        on."""
        others = [number for number in others if number in self.begun and 1 in self.begun[number].parts]
        while self.drafts is not None and others and not self.over():
            with self.lock:
                chosen = self.drafts.choose_again(others)
            if not chosen:
                break
            run(sorted(chosen), WHOLE)
            others = [number for number in others if number not in chosen]
        for number in others:
            self.record(number, "pruned")

    def in_cohorts(self) -> None:
        """Trials that are drafted alone, or turn out to be silent and slow, climb their steps ten at a time.

        All are tried on the smallest, the best of them on the next. What is left is run whole while the next ten climb.
        """
        with ThreadPoolExecutor() as beside:
            cohorts: list[tuple[list[Future[None]], list[int]]] = []

            def arrived(fits: list[Future[None]], number: int) -> None:
                fits.append(beside.submit(self.one_by_one, [number], WHOLE))

            def settle() -> None:
                """End the others of cohorts of which all whole fits are done."""
                for cohort in [cohort for cohort in cohorts if all(fit.done() for fit in cohort[0])]:
                    cohorts.remove(cohort)
                    for fit in cohort[0]:
                        fit.result()
                    self.end(cohort[1], self.one_by_one)

            for start in range(0, self.n_trials, COHORT):
                if (self.in_parts is False and not self.drafting) or self.over():
                    break
                left = [
                    number for number in range(start, min(start + COHORT, self.n_trials)) if number not in self.fits
                ]
                if left and (asked := self.claim(left)):
                    settle()
                    self.ask([number for number in asked if number not in self.begun])
                    whole: list[Future[None]] = []
                    others = self.climb(asked, partial(arrived, whole))
                    cohorts.append((whole, others))
            wait([fit for fits, _ in cohorts for fit in fits])
            settle()
        if time.monotonic() > self.ends:
            tried = [begun for begun in self.begun.values() if 1 in begun.parts]
            step = 1 if self.drafts is not None else max((max(begun.parts) for begun in tried), default=1)
            furthest = [begun for begun in tried if step in begun.parts]
            self.last = min(furthest, key=lambda begun: begun.parts[step], default=None)

    def climb(self, climbing: Sequence[int], arrived: Callable[[int], None]) -> list[int]:
        """Take trials over their steps together; ``arrived`` is told of those that are to be run whole. Those that were drafted and
        not chosen."""
        others: list[int] = []
        if self.drafts is not None:
            sure, climbing = self.parted(climbing)
            for number in sure:
                arrived(number)
        for step in (1, FACTOR) if self.drafts is None else (1,):
            if len(climbing) < 2 and self.n_trials <= COHORT:
                break  # nothing will be held against it
            self.one_by_one(climbing, step)
            if self.drafts is not None:
                self.prove(climbing, self.one_by_one)
                worthy = self.worthy(climbing)
                if not self.drafting:
                    return others
                others = [number for number in climbing if number not in worthy]
                climbing = worthy
                continue
            if not self.in_parts:
                return others
            with self.lock:
                parts = {number: self.begun[number].parts for number in climbing if number in self.begun}
                losses = {number: found[step] for number, found in parts.items() if step in found}
                ended = self.rungs_of_parts.arrive(step, losses)
            for number in sorted(ended):
                if number == 0:
                    arrived(number)
                else:
                    self.record(number, "pruned")
            climbing = sorted(set(losses) - ended)
        for number in climbing:
            arrived(number)
        return others
