"""Runner of the trials of a search: one in its own fork, or several in a vectorized fit, fully or at a low fidelity.

A low fidelity is a subset of the training split, counted in ninths, or a share of the budget, counted in tenths.
"""

from __future__ import annotations

import math
import time
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
from harness.scoring import seeded_generator
from harness.search.fidelity import FidelityPolicy
from harness.search.history import TrialHistory
from harness.search.sampler import SEARCH_SEED
from harness.search.subsets import FULL_FIDELITY, subset
from leaderboard.result import Status

MAX_REPORTS = 10_000
"""Maximum number of reports of one trial that are compared and recorded. Later reports are ignored."""


class TrialRunner:
    """Runner of the trials of a history. The caller of a method that takes a ``device`` holds a slot on it.

    ``record`` is called with the number and the status of each trial that ends. Close the runner when done: it holds subsets of the
    training split in shared memory.
    """

    def __init__(
        self, context: RunContext, history: TrialHistory, policy: FidelityPolicy, record: Callable[[int, str], None]
    ) -> None:
        self.context, self.history, self.policy, self.record = context, history, policy, record
        self.subsets: dict[int, SharedInputs] = {}
        self.lost_slots: Counter[object] = Counter()
        """Number of slots that were lost while a trial ran, by trial number, or by the tuple of numbers of a chunk."""

    def close(self) -> None:
        for data in self.subsets.values():
            data.close()

    def data_and_budget(self, fidelity: int) -> tuple[SharedInputs, float]:
        """Return the data and the budget (share of a full fit) of a fit at ``fidelity``; all data and 1 at `FULL_FIDELITY`."""
        ninths, budget = self.policy.ninths_and_budget(fidelity)
        return self.context.data if ninths == FULL_FIDELITY else self.subset(ninths), budget

    def subset(self, ninths: int) -> SharedInputs:
        """Return the data with ``ninths`` ninths of the training rows, in shared memory. The first call makes them."""
        with self.history.lock:
            if ninths not in self.subsets:
                scorer = self.context.scorer
                rng = seeded_generator("parts", scorer.key)  # the same for each: a smaller subset lies in a larger one
                train = subset(scorer.train_split, ninths, rng)
                self.subsets[ninths] = SharedInputs.of(train, scorer.valid_split, scorer.task.kind)
            return self.subsets[ninths]

    def record_partial(self, number: int, fidelity: int, score: float, seconds: float) -> None:
        """Record the validation score of a running trial at a low fidelity, and the seconds of that fit."""
        with self.history.lock:
            self.policy.record_partial(number, self.history.running[number], fidelity, score, seconds)
            if self.policy.low_fidelity is not None and fidelity == 1:
                self.history.report_progress()

    def run_alone(self, number: int, device: str, only_fidelity: int | None = None) -> None:
        """Run one trial alone, each fit in a new fork: through all fidelities, or only at ``only_fidelity``. Record it if it ends.

        Does nothing if the search should stop, except for the policy's ``overtime_trial``. Raises SlotLost if the slot is lost, so
        that the trial is run again on another.
        """
        policy, history, trial = self.policy, self.history, self.history.running[number]
        is_partial = only_fidelity not in (None, FULL_FIDELITY)
        if history.should_stop() and trial is not policy.overtime_trial:
            return
        if is_partial and policy.on_subsets is False and policy.low_fidelity is None:
            return
        started = time.monotonic()

        def on_report(loss: float) -> bool:
            """Store a loss of the full fit; return True to prune the trial."""
            with history.lock:
                if len(trial.losses) >= MAX_REPORTS:
                    return False
                trial.losses.append(loss)
                return bool(policy.losers_at(len(trial.losses), {number: trial.losses}))

        def on_partial_report(fidelity: int, loss: float) -> bool:
            """Count a report of a fit at a low fidelity; return True to stop the fit."""
            trial.reports[fidelity] = trial.reports.get(fidelity, 0) + 1
            return policy.report_without_budget(only_partial=is_partial)

        def fit(fidelity: int, on_report: Callable[[float], bool]) -> float:
            """Fit the trial in a new fork; return the validation score."""
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
            low_fidelities: tuple[int, ...] = ()
            if only_fidelity is None:
                low_fidelities = policy.fidelities_before_full(trial)
            elif is_partial:
                low_fidelities = (only_fidelity,)
            for fidelity in low_fidelities:
                if fidelity in trial.partial:
                    continue
                trial.reports.pop(fidelity, None)  # from a slot that was lost
                score = fit(fidelity, partial(on_partial_report, fidelity))
                self.record_partial(number, fidelity, score, time.monotonic() - started)
                policy.record_subset_seconds(time.monotonic() - started)
                if not is_partial:
                    with history.lock:
                        continues = policy.should_continue(number, trial, fidelity)
                    if not continues:
                        raise TrialPruned
            if is_partial:
                trial.seconds += time.monotonic() - started
                return
            trial.losses.clear()  # from a slot that was lost
            trial.members = trial.error = None
            trial.value = fit(FULL_FIDELITY, on_report)
            status: str = Status.COMPLETE
        except TrialPruned:
            if is_partial:
                return
            status = Status.PRUNED
        except TrialFailed as error:
            raise_if_crowded(error, device, self.context.slots)
            status, trial.error = error.status, str(error)
        except SlotLost as error:
            self.lost_slots[number] += 1
            if self.lost_slots[number] < MAX_LOST_SLOTS:
                raise
            status, trial.error = Status.FAILED, f"{error}, the {MAX_LOST_SLOTS}th that it ran on"
            trial.members = None
        trial.seconds += time.monotonic() - started
        self.record(number, status)

    def not_run(self, numbers: Sequence[int], fidelity: int) -> list[int]:
        """Return the trials in ``numbers`` that are not on record and have had no fit at ``fidelity``."""
        history = self.history
        return [one for one in numbers if one not in history.fits and fidelity not in history.running[one].partial]

    def run_or_explain(
        self, chunk: Sequence[int], device: str, max_members: int, fidelity: int = FULL_FIDELITY
    ) -> dict[int, str | Postponed]:
        """Run trials in one fork as `run_vectorized` does, unless the chunk has lost `MAX_LOST_SLOTS` slots.

        Returns, by trial number, the reason why a trial was not run. Raises SlotLost if the slot is lost and the chunk may lose
        more.
        """
        # A chunk that runs again after its slot was lost has members that are done.
        left = self.not_run(chunk, fidelity)
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
        """Run trials in one fork, vectorized where that pays; return, by trial number, the reason why a trial was not run.

        If the fits would take long, only the first ``max_members`` trials run. The reason of the rest is then `POSTPONED`.
        """
        with self.history.lock:
            if self.history.should_stop():
                return {}
        context, is_full = self.context, fidelity == FULL_FIDELITY
        data, budget = self.data_and_budget(fidelity)
        trials = [self.history.running[number] for number in numbers]
        for trial in trials:  # the work on a slot that was lost is repeated
            trial.losses.clear()
            trial.reports.pop(fidelity, None)
        last = time.monotonic()

        def share_time(members: Collection[int]) -> None:
            """Add the time since the last call to the seconds of ``members``, in equal shares."""
            nonlocal last
            now = time.monotonic()
            for member in members:
                trials[member].seconds += (now - last) / len(members)
            last = now

        def on_reports(losses: Mapping[int, float]) -> set[int]:
            """Store the reported losses, given by member; return the members to prune."""
            share_time(losses)
            if time.monotonic() > self.history.deadline:  # the best member continues; the others count as never started
                return set(losses) - {min(losses, key=lambda member: (math.isnan(losses[member]), losses[member]))}
            if not is_full:
                for member in losses:
                    trials[member].reports[fidelity] = trials[member].reports.get(fidelity, 0) + 1
                return set()
            if any(len(trials[member].losses) >= MAX_REPORTS for member in losses):
                return set()
            with self.history.lock:
                for member, loss in losses.items():
                    trials[member].losses.append(loss)
                steps = {len(trials[member].losses) for member in losses}
                reported = {numbers[member]: trials[member].losses for member in losses}
                losers = self.policy.losers_at(max(steps), reported) if len(steps) == 1 else set()
            for number in losers:
                self.history.running[number].members = len(losses)
                self.record(number, Status.PRUNED)
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
                    trial.members = len(numbers)
                    status: str = Status.COMPLETE
                    try:
                        score = self.score(BatchMember(fork, member), number)
                    except TrialFailed as error:
                        if not fork.alive:
                            raise
                        status, trial.members, trial.error = error.status, None, str(error)
                    share_time([member])
                    if status == Status.COMPLETE and not is_full:
                        self.record_partial(number, fidelity, score, trial.seconds)
                        continue
                    trial.value = score if status == Status.COMPLETE else None
                    self.record(number, status)
        except TrialFailed as error:  # one member may have failed them all; run alone, the culprit shows
            left = self.not_run(numbers, fidelity)
            return dict.fromkeys(left, str(error))
        reasons: dict[int, str | Postponed] = {numbers[member]: reason for member, reason in rejected.items()}
        return reasons | {numbers[member]: POSTPONED for member in postponed}

    def score(self, fork: Trial | RemoteTrial | BatchMember, number: int) -> float:
        """Return the validation score of a fitted trial, from the answers of its process ``fork``."""
        scorer = self.context.scorer
        return scorer.valid(scorer.ask(fork, scorer.valid_split)[0])
