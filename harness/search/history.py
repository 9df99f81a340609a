"""What a search knows of its trials: those on record, those begun, what the study and the rungs were told of them, and the leases
by which several commands share them.
"""

from __future__ import annotations

import math
import threading
import time
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.dispatch import LOOK, Bench
from harness.plugins.description import Description
from harness.search.asha import FIRST, Rungs, lowest
from harness.search.low_fidelity import DRAFT, FEWEST, Drafts, Foreseen
from harness.search.sampler import BEST, MOST, SPREAD, Study
from leaderboard.store.store import Fit

GIVE_UP_AFTER = 3
"""Failed trials without a single good one, after which the rest are not tried."""

SLOW = 1.0
"""Seconds of a fit from which it is worth while to think longer about what to try, and to ask for fewer at once."""

FEW, LEAST = 16, 6
"""Trials that are run in a long search, and at least, before there is anything to go by."""


@dataclass(frozen=True)
class Manner:
    """How a search goes about it: another manner is another search, with trials of its own.

    ``first`` are configurations to try right after the plug-in's own guess; ``seed`` moves the sampler, not the fits; without
    ``halving`` every trial goes to its end.
    """

    first: Sequence[Mapping[str, Any]] = ()
    seed: int = 0
    halving: bool = True


@dataclass
class Begun:
    """A trial that has been asked, and what it has come to: ``parts`` by ninths of the training split or by tenths of its budget,
    after ``tried`` reports; ``losses`` by report of a whole fit."""

    params: Mapping[str, Any]
    sure: bool = False
    """Whether it is fitted whole without a draft."""
    parts: dict[int, float] = field(default_factory=dict)
    tried: dict[int, int] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    value: float | None = None
    seconds: float = 0.0


class Ledger:
    """Trials 0..n_trials-1 of one entry. Its lock is for whoever works on them from several threads."""

    def __init__(
        self, bench: Bench, description: Description, n_trials: int, timeout: float | None, manner: Manner
    ) -> None:
        self.bench, self.n_trials, self.manner = bench, n_trials, manner
        higher = bench.scorer.task.ranking.higher_is_better
        self.study = Study(description, higher_is_better=higher, first=manner.first, seed=manner.seed)
        self.drafts: Drafts | None = None
        if description.budget and manner.halving and n_trials >= 3 * FEWEST:
            self.drafts = Drafts(n_trials, description.space)
        self.rungs_of_parts = Rungs(1)
        self.in_parts: bool | None = None if self.drafts is None else False
        """Whether trials meet their rungs on parts of the training split; None until a trial has shown it."""
        self.begun: dict[int, Begun] = {}
        self.lock = threading.Lock()
        self.ends = time.monotonic() + timeout if timeout else math.inf
        self.together = description.together and bench.crew.config.limits.cpu_seconds is None
        self.rungs = Rungs(FIRST, LEAST)
        self.fits: dict[int, Fit] = {}
        self.best: float | None = None
        self.took: list[float] = []
        """Seconds of whole fits, sorted."""
        self.took_drafts: list[float] = []
        """Seconds of drafts, sorted."""
        self.told: set[int] = set()
        self.at_once = not self.together
        """Whether an answer is told as soon as it is there, not with its block."""
        self.leases = bench.store.leases(bench.study, "search")
        self.looked, self.said_thinned = 0.0, False
        self.passed_over = 0
        """Fits on record that are none of this search's: failures of earlier attempts, and numbers beyond its last."""
        self.adopt()

    def adopt(self, numbers: Sequence[int] | None = None) -> None:
        """Take up what is on record of these numbers, or of all: from an earlier command, or from another that shares the store."""
        for fit in self.bench.store.fits(self.bench.study, "search", numbers):
            if fit.number in self.fits or fit.number >= self.n_trials:
                continue
            if fit.status in ("complete", "pruned") or fit.attempt == self.bench.attempt:
                self.keep(fit)
                value = self.study.sign * fit.value if fit.status == "complete" and fit.value is not None else None
                self.rungs.restore(fit.number, fit.facts.get("losses", []), value)
                if self.drafts is not None and fit.status in ("complete", "pruned"):
                    for budget, loss in fit.facts.get("drafts", {}).items():
                        self.drafts.take(fit.number, int(budget), loss, fit.facts["tried"][budget], fit.params)
                    if value is not None:
                        self.drafts.end(fit.number, value, len(fit.facts.get("losses", [])))
                if fit.facts.get("losses"):
                    self.in_parts = False
                for ninths, loss in fit.facts.get("parts", {}).items():
                    self.in_parts = True
                    self.rungs_of_parts.arrive(int(ninths), {fit.number: loss})

    @property
    def few(self) -> int:
        """A quarter of the trials, within bounds: what is run before there is anything to go by."""
        return max(min(self.n_trials // 4, FEW), LEAST)

    @property
    def drafting(self) -> bool:
        """Whether trials are drafted before they are fitted whole."""
        return self.drafts is not None and self.drafts.proven is not False

    def claim(self, numbers: Sequence[int]) -> list[int]:
        """Those of these numbers that are ours to run: nobody else is at it, and nobody has done it."""
        ours = self.leases.claim(number for number in numbers if number not in self.fits)
        with self.lock:
            self.adopt(sorted(ours))
            return sorted(number for number in ours if number not in self.fits)

    def look_around(self) -> None:
        """Take up, now and then, what others have recorded meanwhile. Under the lock."""
        if time.monotonic() - self.looked < LOOK:
            return
        self.looked = time.monotonic()
        count = self.bench.store.count_fits(self.bench.study, "search")
        if count - len(self.fits) > self.passed_over:
            self.adopt()
            self.passed_over = count - len(self.fits)
            for number in sorted(set(self.fits) - self.told):
                self.tell(number)

    def ask(self, numbers: Sequence[int]) -> None:
        """Begin these trials, each with all that is known, and in knowledge of those that are under way.

        Not under the lock: an answer may take a tenth of a second, and who trains reports meanwhile.
        """
        with self.lock:
            self.study.assume(self.foreseen())
        for number in numbers:
            with self.lock:
                beside = [begun.params for other, begun in self.begun.items() if not self.judged(other)]
                answer, sure = self.study.question(number, beside if self.seconds >= SLOW else None)
            params = answer()
            with self.lock:
                self.begun[number] = Begun(params, sure)

    def judged(self, number: int) -> bool:
        """Whether a trial that has begun was drafted, and not chosen."""
        return self.drafts is not None and number in self.drafts.values[1] and number not in self.drafts.went

    def foreseen(self) -> list[Foreseen] | None:
        """What trials should come to; nothing before enough have. None where they are not drafted."""
        if self.drafts is None or not self.drafting:
            return None
        if not self.drafts.known:
            return []
        params: dict[int, Mapping[str, Any]] = {number: fit.params for number, fit in self.fits.items()}
        params |= {number: begun.params for number, begun in self.begun.items()}
        foreseen = self.drafts.foreseen()
        return [
            Foreseen(params[number], value, number in self.drafts.ends)
            for number, value in foreseen.items()
            if number in params
        ]

    def tell(self, number: int) -> None:
        if number in self.fits and number not in self.told:
            self.told.add(number)
            self.study.tell(self.fits[number])
        if self.study.thinned and not self.said_thinned:
            self.said_thinned = True
            self.bench.watcher.note(
                f"more than {MOST} trials: from here on the sampler goes by the best {BEST} and a spread of {SPREAD} others, so "
                "that a question does not cost more and more; all stay on record"
            )

    def keep(self, fit: Fit) -> None:
        """Take up a trial that has ended."""
        self.fits[fit.number] = fit
        if fit.status == "complete" and fit.value is not None:
            sign = self.study.sign
            self.best = fit.value if self.best is None or sign * fit.value < sign * self.best else self.best
            insort(self.took, float(fit.facts.get("seconds", 0.0)))

    def ended_at(self, step: int, reported: Mapping[int, Sequence[float]]) -> set[int]:
        """The numbers that end at this step with what they have reported. Between rungs it costs nothing: reports may be many."""
        if not self.manner.halving or self.drafts is not None or not self.rungs.is_rung(step):
            return set()
        return self.rungs.arrive(step, {number: lowest(losses) for number, losses in reported.items()})

    @property
    def seconds(self) -> float:
        """What a whole fit takes, its share of a stack's time where it was in one, or should take by what drafts took; 0 where
        nothing is known."""
        if self.took:
            return self.took[len(self.took) // 2]
        return self.took_drafts[len(self.took_drafts) // 2] / DRAFT if self.took_drafts else 0.0

    @property
    def cost(self) -> float:
        """Seconds that a trial takes, whether it is fitted whole or not: a mean."""
        return self.seconds * (DRAFT + self.drafts.share if self.drafts is not None and self.drafting else 1.0)

    @property
    def slow(self) -> bool:
        return self.cost >= SLOW

    def over(self) -> bool:
        """Whether nothing more is to be begun: the time is up, or nothing but failures has come."""
        fits = self.fits.values()
        hopeless = len(fits) >= GIVE_UP_AFTER and all(fit.status not in ("complete", "pruned") for fit in fits)
        hopeless = hopeless and not any(begun.parts for begun in list(self.begun.values()))
        return hopeless or time.monotonic() > self.ends

    def record(self, number: int, status: str) -> None:
        bench, begun = self.bench, self.begun[number]
        if bench.crew.closed:
            return  # ended from here, not by itself: not a result
        kept = [loss if math.isfinite(loss) else None for loss in begun.losses]
        if begun.parts and self.drafts is not None:
            begun.facts["drafts"] = {str(budget): value for budget, value in begun.parts.items()}
            begun.facts["tried"] = {str(budget): reports for budget, reports in begun.tried.items()}
        elif begun.parts and self.in_parts:
            begun.facts["parts"] = begun.parts
        with self.lock:
            fit = Fit(
                bench.study,
                "search",
                number,
                dict(begun.params),
                bench.attempt,
                status,
                begun.value,
                {**begun.facts, "seconds": begun.seconds, "losses": kept},
            )
            if status == "complete":
                assert begun.value is not None, "complete trials have a value"
                self.rungs.finished(number, len(kept), self.study.sign * begun.value)
                if self.drafts is not None:
                    self.drafts.end(number, self.study.sign * begun.value, len(kept))
            elif self.drafts is not None and status != "pruned":
                self.drafts.drop(number)
            if not bench.store.add_fit(fit, self.leases[number]):
                return  # others took it over while this machine slept, and will have recorded it
            self.keep(fit)
            del self.begun[number]
            if self.at_once:
                self.tell(number)
            self.show()

    def show(self) -> None:
        drafted = 0 if self.drafts is None else sum(1 in begun.parts for begun in self.begun.values())
        self.bench.watcher.trial(len(self.fits) + drafted, self.n_trials, self.best)
