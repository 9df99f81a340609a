"""How the trials of a search run: one in a fork of its own, or several as one, whole or on less than the whole.

Less than the whole is a part of the training split, counted in ninths, or a draft: a tenth of the epochs, or two.
"""

from __future__ import annotations

import math
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from harness.dispatch import MOST_LOST, Bench, check_crowd
from harness.errors import SlotLost, TrialFailed, TrialPruned
from harness.execution.cluster.proxies import RemoteTrial
from harness.execution.parent.batch_trial import BatchMember
from harness.execution.parent.fit_data import SharedInputs
from harness.execution.parent.trial import Trial
from harness.plugins.description import Description
from harness.scoring import generator
from harness.search.asha import FACTOR
from harness.search.history import Begun, Ledger, Manner
from harness.search.low_fidelity import DRAFT
from harness.search.sampler import SEARCH_SEED
from harness.search.subsets import WHOLE, part

MOST_REPORTS = 10_000
"""Reports of one trial that are looked at and recorded."""

LONG = 0.2
"""Seconds of a fit on a ninth of the training split from which parts are tried before the whole."""


class Runner(Ledger):
    """Runs trials of a ledger. Methods that take a device are called by whoever holds that slot."""

    def __init__(
        self, bench: Bench, description: Description, n_trials: int, timeout: float | None, manner: Manner
    ) -> None:
        super().__init__(bench, description, n_trials, timeout, manner)
        self.parts: dict[int, SharedInputs] = {}
        self.last: Begun | None = None
        """The one that may go on when the time is up."""
        self.lost: Counter[object] = Counter()
        """How many slots a trial, or a chunk of them, has lost."""

    @property
    def steps(self) -> tuple[int, ...]:
        """What trials are tried on, in turn, before they are fitted whole; nothing where that is not known yet."""
        return (1,) if self.drafting else (1, FACTOR) if self.in_parts else ()

    def steps_of(self, begun: Begun) -> tuple[int, ...]:
        return () if begun.sure or begun is self.last else self.steps

    def less(self, step: int) -> tuple[SharedInputs, float]:
        """The data and the budget of a step; all of both from `WHOLE` on."""
        if step == WHOLE:
            return self.bench.data, 1.0
        return (self.part(step), 1.0) if self.drafts is None else (self.bench.data, step * DRAFT)

    def part(self, ninths: int) -> SharedInputs:
        with self.lock:
            if ninths not in self.parts:
                scorer = self.bench.scorer
                rows = generator("parts", scorer.key)  # in each the same: a smaller part is part of a larger one
                self.parts[ninths] = SharedInputs.of(part(scorer.data, ninths, rows), scorer.task.kind)
            return self.parts[ninths]

    def tried(self, number: int, step: int, score: float, seconds: float) -> None:
        """A trial came to this score on less than the whole, in so many seconds."""
        value = self.study.sign * score
        with self.lock:
            self.begun[number].parts[step] = value
            if self.drafts is not None:
                begun = self.begun[number]
                self.drafts.take(number, step, value, begun.tried.get(step, 0), begun.params)
                if step == 1:
                    insort(self.took_drafts, seconds)
                    self.show()

    def goes_on(self, number: int, step: int) -> bool:
        """Whether a trial that came alone to a step is worth the next."""
        with self.lock:
            if self.drafts is not None:
                return not self.drafts.proven or number in self.drafts.choose([number]) or number == 0
            return not self.rungs_of_parts.arrive(step, {number: self.begun[number].parts[step]})

    def alone(self, number: int, device: str, *, only: int | None = None) -> None:
        """One trial in a fork of its own, step by step; with ``only``, on that step alone."""
        less = only not in (None, WHOLE)
        if number not in self.begun:
            if not self.claim([number]):
                return
            with self.lock:
                self.look_around()
            self.ask([number])
        begun = self.begun[number]
        if (self.over() and begun is not self.last) or (less and self.in_parts is False and self.drafts is None):
            return
        started = time.monotonic()

        def on_report(loss: float) -> bool:
            with self.lock:
                if len(begun.losses) >= MOST_REPORTS:
                    return False
                begun.losses.append(loss)
                return bool(self.ended_at(len(begun.losses), {number: begun.losses}))

        def on_less(step: int, loss: float) -> bool:
            begun.tried[step] = begun.tried.get(step, 0) + 1
            if self.drafts is not None or not less:
                return False
            self.in_parts = False  # a trial that reports losses has no need of parts, and this one ends
            return True

        def fit(step: int, on_report: Callable[[float], bool]) -> float:
            data, budget = self.less(step)
            with self.bench.crew.first.trial(
                begun.params,
                data,
                seed=SEARCH_SEED,
                device=device,
                time_limit=self.bench.time_limit,
                budget=budget,
            ) as running:
                fitted = running.fit(on_report)
                self.bench.slots.record_memory(device, fitted.gpu_memory)
                return self.score(running, number)

        try:
            before = (only,) if less and only else self.steps_of(begun) if only is None else ()
            for step in before:
                if step in begun.parts:
                    continue
                begun.tried.pop(step, None)  # of a slot that was lost
                score = fit(step, partial(on_less, step))
                self.tried(number, step, score, time.monotonic() - started)
                if self.in_parts is None:
                    self.in_parts = time.monotonic() - started >= LONG
                if not less and not self.goes_on(number, step):
                    raise TrialPruned
            if less:
                begun.seconds += time.monotonic() - started
                return
            begun.losses.clear()  # of a slot that was lost
            begun.facts.clear()
            begun.value = fit(WHOLE, on_report)
            status = "complete"
        except TrialPruned:
            if less:
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

    def stacked(self, chunk: Sequence[int], device: str, few: int, only: int = WHOLE) -> dict[int, str]:
        """A chunk as one, unless it has lost too many slots. Those that are to be run alone, or later, with the reason."""
        # Run again after its slot was lost, it has members that are done.
        left = [number for number in chunk if number not in self.fits and only not in self.begun[number].parts]
        try:
            return self.as_one(left, device, few, only) if len(left) > 1 else dict.fromkeys(left, "there is no other")
        except SlotLost as error:
            self.lost[tuple(chunk)] += 1
            if self.lost[tuple(chunk)] < MOST_LOST:
                raise
            return dict.fromkeys(left, str(error))

    def as_one(self, numbers: Sequence[int], device: str, few: int, only: int) -> dict[int, str]:
        """Trials in one fork, trained as one where that pays. Those that were not, with the reason."""
        with self.lock:
            if self.over():
                return {}
        bench, whole = self.bench, only == WHOLE
        data, budget = self.less(only)
        begun = [self.begun[number] for number in numbers]
        for one in begun:  # what they did on a slot that was lost is done again
            one.losses.clear()
            one.tried.pop(only, None)
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
            if not whole:
                for place in found:
                    begun[place].tried[only] = begun[place].tried.get(only, 0) + 1
                return set()
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
            with bench.crew.first.batch_trial(
                [one.params for one in begun],
                data,
                max_members=few,
                seed=SEARCH_SEED,
                device=device,
                time_limit=bench.time_limit,
                budget=budget,
            ) as running:
                fitted, reasons = running.fit_many(on_reports)
                share(fitted)
                for place in fitted:
                    number, one = numbers[place], begun[place]
                    one.facts["together"] = len(numbers)
                    status = "complete"
                    try:
                        score = self.score(BatchMember(running, place), number)
                    except TrialFailed as error:
                        if not running.alive:
                            raise
                        status, one.facts = error.status, {"error": str(error)}
                    share([place])
                    if status == "complete" and not whole:
                        self.tried(number, only, score, one.seconds)
                        continue
                    one.value = score if status == "complete" else None
                    self.record(number, status)
        except TrialFailed as error:  # of all for the fault of one, perhaps: alone it will be seen whose it was
            reasons = {}
            left = [number for number in numbers if number not in self.fits and only not in self.begun[number].parts]
            return dict.fromkeys(left, str(error))
        return {numbers[place]: why for place, why in reasons.items()}

    def score(self, running: Trial | RemoteTrial | BatchMember, number: int) -> float:
        scorer = self.bench.scorer
        return scorer.valid(scorer.ask(running, scorer.data.valid, f"search {number}")[0])
