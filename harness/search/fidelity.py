"""Fidelity policy of a search: which trials start at a low fidelity, and which of them are promoted or pruned.

There are three schemes. At most one of them is used in a search:

- low-fidelity trials (`LowFidelity`), where a submission can be given a share of its epochs;
- rungs (`Rungs`), where it reports losses and has no budget;
- subsets of the training split, where it reports nothing and is slow.

The policy knows nothing of processes, slots or the store. It is not thread-safe: callers hold the lock of the trial history.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from harness.plugins.description import Description
from harness.search.asha import FIRST_RUNG, REDUCTION_FACTOR, Rungs, lowest_loss
from harness.search.low_fidelity import LOW_FIDELITY, MIN_PROMOTED, LowFidelity, Prediction
from harness.search.subsets import FULL_FIDELITY, MIN_SUBSET_ROWS
from harness.search.trial import RunningTrial, SearchConfig
from leaderboard.result import Status
from leaderboard.store.facts import TrialFacts
from leaderboard.store.store import Fit

MAX_STARTUP_TRIALS, MIN_STARTUP_TRIALS = 16, 6
"""Bounds on the number of startup trials: trials that run before any result guides the search."""

LONG_FIT_SECONDS = 0.2
"""Seconds of a fit on a ninth of the training split from which on trials run on subsets first."""


class FidelityPolicy:
    """Decides on fidelities from the results of trials. ``sign`` times a score is a loss: lower is better."""

    def __init__(self, description: Description, config: SearchConfig, n_trials: int, sign: float) -> None:
        self.halving, self.n_trials, self.sign = config.halving, n_trials, sign
        self.low_fidelity: LowFidelity | None = None
        if description.budget and config.halving and n_trials >= 3 * MIN_PROMOTED:
            self.low_fidelity = LowFidelity(n_trials, description.space)
        self.rungs = Rungs(FIRST_RUNG, MIN_STARTUP_TRIALS)
        self.subset_rungs = Rungs(1)
        self.on_subsets: bool | None = None if self.low_fidelity is None else False
        """True if the rungs are subsets of the training split; None until a trial has shown it."""
        self.overtime_trial: RunningTrial | None = None
        """Trial that may get a full fit after the deadline."""
        self.low_fidelity_times: list[float] = []
        """Seconds of low-fidelity trials, sorted."""

    @property
    def uses_low_fidelity(self) -> bool:
        """True if trials get a low-fidelity fit before a full one."""
        return self.low_fidelity is not None and self.low_fidelity.is_reliable is not False

    @property
    def startup_trials(self) -> int:
        """Number of trials that run before any result guides the search: a quarter of all, within bounds."""
        return max(min(self.n_trials // 4, MAX_STARTUP_TRIALS), MIN_STARTUP_TRIALS)

    @property
    def share_of_full_fit(self) -> float:
        """Mean cost of a trial, promoted or not, as a share of a full fit."""
        if self.low_fidelity is None or not self.uses_low_fidelity:
            return 1.0
        return LOW_FIDELITY + self.low_fidelity.promoted_share

    def may_run_cohorts(self, n_rows: int) -> bool:
        """Tell whether trials may go through low fidelities one by one, given the rows of the training split."""
        return self.halving and self.n_trials > 1 and (self.low_fidelity is not None or n_rows >= MIN_SUBSET_ROWS)

    def fidelities_before_full(self, trial: RunningTrial) -> tuple[int, ...]:
        """Return the low fidelities that a trial goes through before its full fit; none while their use is undecided."""
        if trial.full_fidelity or trial is self.overtime_trial:
            return ()
        return (1,) if self.uses_low_fidelity else (1, REDUCTION_FACTOR) if self.on_subsets else ()

    def cohort_fidelities(self) -> tuple[int, ...]:
        """Low fidelities that a cohort goes through, also while it is unknown whether subsets are used."""
        return (1, REDUCTION_FACTOR) if self.low_fidelity is None else (1,)

    def ninths_and_budget(self, fidelity: int) -> tuple[int, float]:
        """Return the ninths of the training split and the budget of a fit."""
        if fidelity == FULL_FIDELITY:
            return FULL_FIDELITY, 1.0
        return (fidelity, 1.0) if self.low_fidelity is None else (FULL_FIDELITY, fidelity * LOW_FIDELITY)

    def record_partial(self, number: int, trial: RunningTrial, fidelity: int, score: float, seconds: float) -> None:
        """Record a trial's score at a low fidelity, and the seconds that it took."""
        value = self.sign * score
        trial.partial[fidelity] = value
        if self.low_fidelity is not None:
            self.low_fidelity.record(number, fidelity, value, trial.reports.get(fidelity, 0), trial.params)
            if fidelity == 1:
                insort(self.low_fidelity_times, seconds)

    def record_end(self, number: int, trial: RunningTrial, status: str) -> None:
        """Record that a trial ended with this status."""
        if status == Status.COMPLETE:
            if trial.value is None:
                raise ValueError(f"trial {number} is complete and has no value")
            self.rungs.record_final(number, len(trial.losses), self.sign * trial.value)
            if self.low_fidelity is not None:
                self.low_fidelity.record_final(number, self.sign * trial.value, len(trial.losses))
        elif self.low_fidelity is not None and status != Status.PRUNED:
            self.low_fidelity.discard(number)

    def facts(self, trial: RunningTrial, losses: Sequence[float | None]) -> TrialFacts:
        """Return the facts of a trial that ends, with these losses of its full fit."""
        low = trial.partial if self.low_fidelity is not None else {}
        subsets = trial.partial if self.low_fidelity is None and self.on_subsets else {}
        reports = trial.reports if low else {}
        return TrialFacts(trial.seconds, losses, trial.error, trial.members, dict(low), dict(reports), dict(subsets))

    def load(self, fit: Fit) -> None:
        """Load a recorded trial."""
        facts = TrialFacts.of(fit)
        value = self.sign * fit.value if fit.status == Status.COMPLETE and fit.value is not None else None
        self.rungs.restore(fit.number, facts.losses, value)
        if self.low_fidelity is not None and fit.status in (Status.COMPLETE, Status.PRUNED):
            for fidelity, loss in facts.low_fidelity.items():
                reports = facts.low_fidelity_reports.get(fidelity, 0)
                self.low_fidelity.record(fit.number, fidelity, loss, reports, fit.params)
            if value is not None:
                self.low_fidelity.record_final(fit.number, value, len(facts.losses))
        if facts.losses:
            self.on_subsets = False
        for ninths, loss in facts.subsets.items():
            self.on_subsets = True
            self.subset_rungs.losers(ninths, {fit.number: loss})

    def should_continue(self, number: int, trial: RunningTrial, fidelity: int) -> bool:
        """Tell whether a trial that runs alone should continue at the next fidelity."""
        if self.low_fidelity is not None:
            return not self.low_fidelity.is_reliable or number in self.low_fidelity.promote([number]) or number == 0
        return not self.subset_rungs.losers(fidelity, {number: trial.partial[fidelity]})

    def losers_at(self, step: int, reported: Mapping[int, Sequence[float]]) -> set[int]:
        """Return the numbers of the trials to prune at this report, given the losses that each has reported.

        Between rungs it returns at once: reports may be many.
        """
        if not self.halving or self.low_fidelity is not None or not self.rungs.is_rung(step):
            return set()
        return self.rungs.losers(step, {number: lowest_loss(losses) for number, losses in reported.items()})

    def report_without_budget(self, *, only_partial: bool) -> bool:
        """Take note that a fit at a low fidelity reports losses; return True to stop it, if it was to end at this fidelity."""
        if self.low_fidelity is not None or not only_partial:
            return False
        self.on_subsets = False  # a trial that reports losses needs no subsets
        return True

    def record_subset_seconds(self, seconds: float) -> None:
        """Decide by the first fit whether trials run on subsets."""
        if self.on_subsets is None:
            self.on_subsets = seconds >= LONG_FIT_SECONDS

    def is_rejected(self, number: int) -> bool:
        """Tell whether a running trial had its low-fidelity fit and was not promoted."""
        low = self.low_fidelity
        return low is not None and number in low.losses[1] and number not in low.promoted

    def predictions(self, params: Mapping[int, Mapping[str, Any]]) -> list[Prediction] | None:
        """Return the predicted final values; empty before enough full fits, None if trials skip the low fidelity.

        ``params`` are hyperparameters by trial number.
        """
        if self.low_fidelity is None or not self.uses_low_fidelity:
            return None
        if not self.low_fidelity.can_predict:
            return []
        finals = self.low_fidelity.finals
        predicted = self.low_fidelity.predict_final()
        return [Prediction(params[one], value, one in finals) for one, value in predicted.items() if one in params]

    def promote(self, candidates: Collection[int]) -> set[int]:
        """Promote the best candidates. Trial 0, the plug-in's defaults, always is: no search ends below what its author knew."""
        return set(candidates) if self.low_fidelity is None else self.low_fidelity.promote(candidates) | {0}

    def furthest(self, running: Collection[RunningTrial]) -> RunningTrial | None:
        """Return the best trial at the highest fidelity that any has reached."""
        started = [trial for trial in running if 1 in trial.partial]
        fidelity = 1 if self.low_fidelity is not None else max((max(trial.partial) for trial in started), default=1)
        candidates = [trial for trial in started if fidelity in trial.partial]
        return min(candidates, key=lambda trial: trial.partial[fidelity], default=None)
