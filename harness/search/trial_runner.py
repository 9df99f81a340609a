"""Runs the trials of a search: one in its own fork, or several in a vectorized fit, fully or at a low fidelity.

A low fidelity is a subset of the training split, counted in ninths, or a share of the budget, counted in tenths.
"""

from __future__ import annotations

import math
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from harness.dispatch import MAX_LOST_SLOTS, RunContext, raise_if_crowded
from harness.errors import SlotLost, TrialFailed, TrialPruned
from harness.execution.cluster.proxies import RemoteTrial
from harness.execution.parent.batch_trial import BatchMember
from harness.execution.parent.fit_data import SharedInputs
from harness.execution.parent.trial import Trial
from harness.frameworks.batch import POSTPONED, Postponed
from harness.plugins.description import Description
from harness.scoring import seeded_generator
from harness.search.asha import REDUCTION_FACTOR
from harness.search.history import RunningTrial, SearchConfig, TrialHistory
from harness.search.low_fidelity import LOW_FIDELITY
from harness.search.sampler import SEARCH_SEED
from harness.search.subsets import FULL_FIDELITY, subset

MAX_REPORTS = 10_000
"""Maximum number of reports of one trial that are compared and recorded."""

LONG_FIT_SECONDS = 0.2
"""Seconds of a fit on a ninth of the training split from which on trials run on subsets first."""


class TrialRunner(TrialHistory):
    """Runs the trials of a history. The caller of a method that takes a device holds that slot."""

    def __init__(
        self, context: RunContext, description: Description, n_trials: int, timeout: float | None, config: SearchConfig
    ) -> None:
        super().__init__(context, description, n_trials, timeout, config)
        self.subsets: dict[int, SharedInputs] = {}
        self.overtime_trial: RunningTrial | None = None
        """Trial that may get a full fit after the deadline."""
        self.lost_slots: Counter[object] = Counter()
        """Number of lost slots by trial number, or by chunk as a tuple of numbers."""

    @property
    def fidelities(self) -> tuple[int, ...]:
        """Low fidelities that trials go through before a full fit; empty while it is unknown whether they are used."""
        return (1,) if self.uses_low_fidelity else (1, REDUCTION_FACTOR) if self.on_subsets else ()

    def remaining_fidelities(self, trial: RunningTrial) -> tuple[int, ...]:
        """Return the low fidelities that this trial goes through before its full fit."""
        return () if trial.full_fidelity or trial is self.overtime_trial else self.fidelities

    def data_and_budget(self, fidelity: int) -> tuple[SharedInputs, float]:
        """Return the data and the budget of a fit; all data and budget 1 at `FULL_FIDELITY`."""
        if fidelity == FULL_FIDELITY:
            return self.context.data, 1.0
        return (
            (self.subset(fidelity), 1.0) if self.low_fidelity is None else (self.context.data, fidelity * LOW_FIDELITY)
        )

    def subset(self, ninths: int) -> SharedInputs:
        """Return the shared data with so many ninths of the training rows, made at the first call."""
        with self.lock:
            if ninths not in self.subsets:
                scorer = self.context.scorer
                rng = seeded_generator("parts", scorer.key)  # the same for each: a smaller subset lies in a larger one
                self.subsets[ninths] = SharedInputs.of(subset(scorer.data, ninths, rng), scorer.task.kind)
            return self.subsets[ninths]

    def record_partial(self, number: int, fidelity: int, score: float, seconds: float) -> None:
        """Record a trial's score at a low fidelity, and the seconds that it took."""
        value = self.sampler.sign * score
        with self.lock:
            self.running[number].partial[fidelity] = value
            if self.low_fidelity is not None:
                trial = self.running[number]
                self.low_fidelity.record(number, fidelity, value, trial.reports.get(fidelity, 0), trial.params)
                if fidelity == 1:
                    insort(self.low_fidelity_times, seconds)
                    self.report_progress()

    def should_continue(self, number: int, fidelity: int) -> bool:
        """Tell whether a trial that runs alone should continue at the next fidelity."""
        with self.lock:
            if self.low_fidelity is not None:
                return not self.low_fidelity.is_reliable or number in self.low_fidelity.promote([number]) or number == 0
            return not self.subset_rungs.losers(fidelity, {number: self.running[number].partial[fidelity]})

    def run_alone(self, number: int, device: str, *, only_fidelity: int | None = None) -> None:
        """Run one trial in its own fork: through all fidelities, or at ``only_fidelity``."""
        is_partial = only_fidelity not in (None, FULL_FIDELITY)
        if number not in self.running:
            if not self.claim([number]):
                return
            with self.lock:
                self.sync()
            self.suggest([number])
        trial = self.running[number]
        if (self.should_stop() and trial is not self.overtime_trial) or (
            is_partial and self.on_subsets is False and self.low_fidelity is None
        ):
            return
        started = time.monotonic()

        def on_report(loss: float) -> bool:
            """Store a loss of the full fit; return True to prune the trial."""
            with self.lock:
                if len(trial.losses) >= MAX_REPORTS:
                    return False
                trial.losses.append(loss)
                return bool(self.losers_at(len(trial.losses), {number: trial.losses}))

        def on_partial_report(fidelity: int, loss: float) -> bool:
            """Count a report at a low fidelity; return True to stop the fit."""
            trial.reports[fidelity] = trial.reports.get(fidelity, 0) + 1
            if self.low_fidelity is not None or not is_partial:
                return False
            self.on_subsets = False  # a trial that reports losses needs no subsets, so this fit stops
            return True

        def fit(fidelity: int, on_report: Callable[[float], bool]) -> float:
            """Fit in a new fork; return the validation score."""
            data, budget = self.data_and_budget(fidelity)
            with self.context.workers.first.trial(
                trial.params,
                data,
                seed=SEARCH_SEED,
                device=device,
                time_limit=self.context.time_limit,
                budget=budget,
            ) as fork:
                fitted = fork.fit(on_report)
                self.context.slots.record_memory(device, fitted.gpu_memory)
                return self.score(fork, number)

        try:
            low_fidelities = (
                (only_fidelity,)
                if is_partial and only_fidelity
                else self.remaining_fidelities(trial)
                if only_fidelity is None
                else ()
            )
            for fidelity in low_fidelities:
                if fidelity in trial.partial:
                    continue
                trial.reports.pop(fidelity, None)  # from a slot that was lost
                score = fit(fidelity, partial(on_partial_report, fidelity))
                self.record_partial(number, fidelity, score, time.monotonic() - started)
                if self.on_subsets is None:
                    self.on_subsets = time.monotonic() - started >= LONG_FIT_SECONDS
                if not is_partial and not self.should_continue(number, fidelity):
                    raise TrialPruned
            if is_partial:
                trial.seconds += time.monotonic() - started
                return
            trial.losses.clear()  # from a slot that was lost
            trial.facts.clear()
            trial.value = fit(FULL_FIDELITY, on_report)
            status = "complete"
        except TrialPruned:
            if is_partial:
                return
            status = "pruned"
        except TrialFailed as error:
            raise_if_crowded(error, device, self.context.slots)
            status, trial.facts = error.status, {"error": str(error)}
        except SlotLost as error:
            self.lost_slots[number] += 1
            if self.lost_slots[number] < MAX_LOST_SLOTS:
                raise
            status, trial.facts = "failed", {"error": f"{error}, the {MAX_LOST_SLOTS}th that it ran on"}
        trial.seconds += time.monotonic() - started
        self.record(number, status)

    def run_or_explain(
        self, chunk: Sequence[int], device: str, max_members: int, fidelity: int = FULL_FIDELITY
    ) -> dict[int, str | Postponed]:
        """Run a chunk vectorized unless it has lost too many slots; return the reason for each trial that was not run."""
        # A chunk that runs again after its slot was lost has members that are done.
        left = [number for number in chunk if number not in self.fits and fidelity not in self.running[number].partial]
        try:
            return (
                self.run_vectorized(left, device, max_members, fidelity)
                if len(left) > 1
                else dict.fromkeys(left, "there is no other")
            )
        except SlotLost as error:
            self.lost_slots[tuple(chunk)] += 1
            if self.lost_slots[tuple(chunk)] < MAX_LOST_SLOTS:
                raise
            return dict.fromkeys(left, str(error))

    def run_vectorized(
        self, numbers: Sequence[int], device: str, max_members: int, fidelity: int
    ) -> dict[int, str | Postponed]:
        """Run trials in one fork, vectorized where that pays; return the reason for each trial that was not run."""
        with self.lock:
            if self.should_stop():
                return {}
        context, is_full = self.context, fidelity == FULL_FIDELITY
        data, budget = self.data_and_budget(fidelity)
        trials = [self.running[number] for number in numbers]
        for trial in trials:  # the work on a slot that was lost is repeated
            trial.losses.clear()
            trial.reports.pop(fidelity, None)
        last = time.monotonic()

        def share_time(members: Collection[int]) -> None:
            """Divide the time since the last call among these members."""
            nonlocal last
            now = time.monotonic()
            for member in members:
                trials[member].seconds += (now - last) / len(members)
            last = now

        def on_reports(losses: Mapping[int, float]) -> set[int]:
            """Store the losses by member; return the members to prune."""
            share_time(losses)
            if time.monotonic() > self.deadline:  # the best member continues; the others count as never started
                return set(losses) - {min(losses, key=lambda member: (math.isnan(losses[member]), losses[member]))}
            if not is_full:
                for member in losses:
                    trials[member].reports[fidelity] = trials[member].reports.get(fidelity, 0) + 1
                return set()
            if any(len(trials[member].losses) >= MAX_REPORTS for member in losses):
                return set()
            with self.lock:
                for member, loss in losses.items():
                    trials[member].losses.append(loss)
                steps = {len(trials[member].losses) for member in losses}
                reported = {numbers[member]: trials[member].losses for member in losses}
                losers = self.losers_at(max(steps), reported) if len(steps) == 1 else set()
            for number in losers:
                self.running[number].facts["together"] = len(losses)
                self.record(number, "pruned")
            return {member for member in losses if numbers[member] in losers}

        try:
            with context.workers.first.batch_trial(
                [trial.params for trial in trials],
                data,
                max_members=max_members,
                seed=SEARCH_SEED,
                device=device,
                time_limit=context.time_limit,
                budget=budget,
            ) as fork:
                fitted, rejected, postponed = fork.fit_many(on_reports)
                share_time(fitted)
                for member in fitted:
                    number, trial = numbers[member], trials[member]
                    trial.facts["together"] = len(numbers)
                    status = "complete"
                    try:
                        score = self.score(BatchMember(fork, member), number)
                    except TrialFailed as error:
                        if not fork.alive:
                            raise
                        status, trial.facts = error.status, {"error": str(error)}
                    share_time([member])
                    if status == "complete" and not is_full:
                        self.record_partial(number, fidelity, score, trial.seconds)
                        continue
                    trial.value = score if status == "complete" else None
                    self.record(number, status)
        except TrialFailed as error:  # one member may have failed them all; run alone, the culprit shows
            left = [
                number for number in numbers if number not in self.fits and fidelity not in self.running[number].partial
            ]
            return dict.fromkeys(left, str(error))
        reasons: dict[int, str | Postponed] = {numbers[member]: reason for member, reason in rejected.items()}
        return reasons | {numbers[member]: POSTPONED for member in postponed}

    def score(self, fork: Trial | RemoteTrial | BatchMember, number: int) -> float:
        """Return the validation score of a fitted trial."""
        scorer = self.context.scorer
        return scorer.valid(scorer.ask(fork, scorer.data.valid, f"search {number}")[0])
