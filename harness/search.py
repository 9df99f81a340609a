"""The search of one submission's hyperparameters: a study asked and told, trials run in forks, every result recorded.

Submissions that can be fitted together are: a block of configurations is asked for at once, shared out over the slots, and what a
slot's process could not or had better not train as one is run alone. Where that takes long, each slot asks for a few at a time.
Submissions that report no losses, and take their time, meet their rungs on parts of the training split instead of epochs.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from harness.contract import LATER
from harness.execution.given import FitData
from harness.execution.pool import Description
from harness.execution.remote import RemoteTrial
from harness.execution.together import Member
from harness.execution.trial import SlotLost, Trial, TrialFailed, TrialPruned
from harness.found import Found, outcome
from harness.jobs import LOOK, MOST_LOST, Bench, check_crowd, in_parallel
from harness.ledger import Begun, Ledger, Manner
from harness.parts import ENOUGH, WHOLE, part
from harness.rungs import FACTOR
from harness.scoring import generator
from harness.study import SEARCH_SEED

MOST_REPORTS = 10_000
"""Reports of one trial that are looked at and recorded."""

LONG = 0.2
"""Seconds of a fit on a ninth of the training split from which parts are tried before the whole."""

COHORT = 10
"""Trials that climb the parts of the training split together: at first the sampler draws as many blindly anyway."""

BLOCK = 64
"""Configurations that are asked for at once where they can be fitted together."""

SMALLEST, LARGEST, WORTH = 8, 32, 20.0
"""Of those that take long a slot asks for so many at a time, at least and at most: about so many seconds' worth."""


class Search(Ledger):
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
        self.parts: dict[int, FitData] = {}
        self.last: Begun | None = None
        """The one that may go on when the time is up."""
        self.waited = False
        self.lost: Counter[object] = Counter()
        """How many slots a trial, or a chunk of them, has lost."""

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
        if self.manner.halving and len(self.bench.scorer.data.train) >= ENOUGH and self.n_trials > 1:
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
        """How many questions are asked at once, from this one on: at first those that the rungs are to prove themselves on."""
        return self.rungs.whole if number == 0 and self.manner.halving and self.rungs.whole else BLOCK

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
            found = self.stacked(asked, device, len(asked))
            for number in sorted(found):
                self.alone(number, device)

        size = min(max(int(WORTH / max(self.seconds, 1e-3)), SMALLEST), LARGEST)
        in_parallel([left[start : start + size] for start in range(0, len(left), size)], chunk, self.bench)

    def block(self, numbers: range) -> int:
        """Trials whose questions are asked before any of them is answered, so that a block in pieces asks the same. The number
        that comes after them.

        What a chunk could not or had better not train as one is run alone by whichever slots have nothing better to do. Where a
        chunk would take long, a few of it are run, and the others are asked again in the next block.
        """
        asked = self.claim(numbers)
        self.ask(asked)
        slots = len(self.bench.slots.devices)
        few = max(self.few // slots, 2)
        chunks = [chunk for start in range(slots) if (chunk := asked[start::slots])]
        later: list[int] = []
        at_work = {chunk[0] for chunk in chunks if len(chunk) > 1}
        apart = [chunk[0] for chunk in chunks if len(chunk) == 1]
        refused = len(apart)

        def together(chunk: Sequence[int], device: str) -> None:
            nonlocal refused
            if chunk[0] in at_work:
                found = self.stacked(chunk, device, few)
                with self.lock:
                    for number in chunk[few:]:  # never all of them: each block gets on
                        if found.get(number) == LATER:
                            del found[number], self.begun[number]
                            later.append(number)
                    apart.extend(sorted(found))
                    refused += len(found)
                    at_work.remove(chunk[0])
                    self.together = refused < len(asked)
            while True:
                with self.lock:
                    if not (at_work and apart):
                        return
                    number = apart.pop(0)
                try:
                    self.alone(number, device)
                except SlotLost:
                    with self.lock:
                        apart.append(number)
                    raise

        in_parallel([chunk for chunk in chunks if len(chunk) > 1], together, self.bench)
        if not self.together:
            self.at_once = True
            self.begun.clear()  # asked again one by one, each with all that is known by then
            self.rungs = self.new_rungs()
            for fit in self.fits.values():
                self.climbed(fit)
            return numbers.stop
        in_parallel(sorted(apart), self.alone, self.bench)
        for number in numbers:
            self.tell(number)
        return min(later, default=numbers.stop)

    def in_cohorts(self) -> None:
        """Trials that turn out to be silent and slow climb the parts of the training split ten at a time.

        All are tried on the smallest part, the best third of them on the next. What is left is run whole while the next ten climb,
        and so is the plug-in's own guess, whatever its parts say: no search ends with less than its author knew.
        """
        with ThreadPoolExecutor() as beside:
            whole: list[Future[None]] = []
            for start in range(0, self.n_trials, COHORT):
                if self.in_parts is False or self.over():
                    break
                if asked := self.claim(range(start, min(start + COHORT, self.n_trials))):
                    self.ask(asked)
                    self.climb(asked, lambda number: whole.append(beside.submit(self.whole, number)))
            for running in whole:
                running.result()
        if time.monotonic() > self.ends:
            tried = [begun for begun in self.begun.values() if begun.parts]
            self.last = min(tried, key=lambda begun: (-max(begun.parts), begun.parts[max(begun.parts)]), default=None)

    def climb(self, climbing: Sequence[int], arrived: Callable[[int], None]) -> None:
        """Take trials over their rungs together; ``arrived`` is told of those that are to be run whole."""
        for ninths in (1, FACTOR):
            if len(climbing) < 2 and self.n_trials <= COHORT:
                break  # nothing will be held against it
            in_parallel(climbing, partial(self.alone, only=ninths), self.bench)
            if not self.in_parts:
                return
            with self.lock:
                parts = {number: self.begun[number].parts for number in climbing if number in self.begun}
                losses = {number: found[ninths] for number, found in parts.items() if ninths in found}
                ended = self.rungs_of_parts.arrive(ninths, losses)
            for number in sorted(ended):
                if number == 0:
                    arrived(number)
                else:
                    self.record(number, "pruned")
            climbing = sorted(set(losses) - ended)
        for number in climbing:
            arrived(number)

    def whole(self, number: int) -> None:
        in_parallel([number], partial(self.alone, only=WHOLE), self.bench)

    def alone(self, number: int, device: str, *, only: int | None = None) -> None:
        """One trial in a fork of its own; with ``only``, on so many ninths of the training split alone."""
        on_part = only not in (None, WHOLE)
        if number not in self.begun:
            if not self.claim([number]):
                return
            with self.lock:
                self.look_around()
            self.ask([number])
        begun = self.begun[number]
        if (self.over() and begun is not self.last) or (on_part and self.in_parts is False):
            return
        started = time.monotonic()

        def on_report(loss: float) -> bool:
            with self.lock:
                if len(begun.losses) >= MOST_REPORTS:
                    return False
                begun.losses.append(loss)
                return bool(self.ended_at(len(begun.losses), {number: begun.losses}))

        def fit(data: FitData, on_report: Callable[[float], bool]) -> float:
            with self.bench.crew.first.trial(
                begun.params, data, seed=SEARCH_SEED, device=device, time_limit=self.bench.time_limit
            ) as running:
                fitted = running.fit(on_report)
                self.bench.slots.measured(device, fitted.gpu_memory)
                return self.score(running, number)

        try:
            climbs = only is None and self.in_parts and begun is not self.last
            for ninths in (1, FACTOR):
                if ninths in begun.parts or not (climbs or only == ninths):
                    continue
                begun.parts[ninths] = self.study.sign * fit(
                    self.part(ninths), self.speaks if on_part else lambda loss: False
                )
                if self.in_parts is None:
                    self.in_parts = time.monotonic() - started >= LONG
                with self.lock:
                    if not on_part and self.rungs_of_parts.arrive(ninths, {number: begun.parts[ninths]}):
                        raise TrialPruned
            if on_part:
                begun.seconds += time.monotonic() - started
                return
            begun.losses.clear()  # of a slot that was lost
            begun.value = fit(self.bench.data, on_report)
            status = "complete"
        except TrialPruned:
            if on_part:
                return
            status = "pruned"
        except TrialFailed as error:
            check_crowd(error, device, self.bench.slots)
            status, begun.facts = error.status, {"error": str(error)}
        except SlotLost as error:
            self.lost[number] += 1
            if self.lost[number] < MOST_LOST:
                raise
            status, begun.facts = "failed", {"error": f"{error}, the {MOST_LOST}th that it ran on"}
        begun.seconds += time.monotonic() - started
        self.record(number, status)

    def speaks(self, loss: float) -> bool:
        """A trial reports losses on a part of the training split: then there is no need of parts, and this one ends."""
        self.in_parts = False
        return True

    def part(self, ninths: int) -> FitData:
        with self.lock:
            if ninths not in self.parts:
                scorer = self.bench.scorer
                rows = generator("parts", scorer.key)  # in each the same: a smaller part is part of a larger one
                self.parts[ninths] = FitData.of(part(scorer.data, ninths, rows), scorer.task.kind)
            return self.parts[ninths]

    def stacked(self, chunk: Sequence[int], device: str, few: int) -> dict[int, str]:
        """A chunk as one, unless it has lost too many slots. Those that are to be run alone, or later, with the reason."""
        # Run again after its slot was lost, it has members on record.
        left = [number for number in chunk if number not in self.fits]
        try:
            return self.as_one(left, device, few) if len(left) > 1 else dict.fromkeys(left, "there is no other")
        except SlotLost as error:
            self.lost[tuple(chunk)] += 1
            if self.lost[tuple(chunk)] < MOST_LOST:
                raise
            return dict.fromkeys(left, str(error))

    def as_one(self, numbers: Sequence[int], device: str, few: int) -> dict[int, str]:
        """Trials in one fork, trained as one where that pays. Those that were not, with the reason."""
        with self.lock:
            if self.over():
                return {}
        bench = self.bench
        for number in numbers:  # what they did on a slot that was lost is done again
            self.begun[number] = Begun(self.begun[number].params)
        begun = [self.begun[number] for number in numbers]
        last = time.monotonic()

        def share(places: Collection[int]) -> None:
            """Time that has passed is the work of those that were there."""
            nonlocal last
            now = time.monotonic()
            for place in places:
                begun[place].seconds += (now - last) / len(places)
            last = now

        def on_reports(found: Mapping[int, float]) -> set[int]:
            share(found)
            if time.monotonic() > self.ends:  # the best goes on; the others are as if they had not begun
                return set(found) - {min(found, key=lambda place: (math.isnan(found[place]), found[place]))}
            if any(len(begun[place].losses) >= MOST_REPORTS for place in found):
                return set()
            with self.lock:
                for place, loss in found.items():
                    begun[place].losses.append(loss)
                steps = {len(begun[place].losses) for place in found}
                reported = {numbers[place]: begun[place].losses for place in found}
                ended = self.ended_at(max(steps), reported) if len(steps) == 1 else set()
            for number in ended:
                self.begun[number].facts["together"] = len(found)
                self.record(number, "pruned")
            return {place for place in found if numbers[place] in ended}

        try:
            with bench.crew.first.together(
                [one.params for one in begun],
                bench.data,
                few=few,
                seed=SEARCH_SEED,
                device=device,
                time_limit=bench.time_limit,
            ) as running:
                fitted, reasons = running.fit_together(on_reports)
                share(fitted)
                for place in fitted:
                    status, begun[place].facts = "complete", {"together": len(numbers)}
                    try:
                        begun[place].value = self.score(Member(running, place), numbers[place])
                    except TrialFailed as error:
                        if not running.alive:
                            raise
                        status, begun[place].facts = error.status, {"error": str(error)}
                    share([place])
                    self.record(numbers[place], status)
        except TrialFailed as error:  # of all for the fault of one, perhaps: alone it will be seen whose it was
            reasons = {}
            left = [number for number in numbers if number not in self.fits]
            return dict.fromkeys(left, str(error))
        return {numbers[place]: why for place, why in reasons.items()}

    def score(self, running: Trial | RemoteTrial | Member, number: int) -> float:
        scorer = self.bench.scorer
        return scorer.valid(scorer.ask(running, scorer.data.valid, f"search {number}")[0])
