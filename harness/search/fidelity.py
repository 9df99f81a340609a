"""Fidelity policy of a search: which trials start at a low fidelity, and which of them are promoted or pruned.

There are three schemes. At most one of them is used in a search:

- low-fidelity trials (`LowFidelity`), where a submission can be given a share of its epochs;
- rungs (`Rungs`), where a submission reports losses and has no budget;
- subsets of the training split, where a submission reports nothing and is slow.

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
    """Policy that decides from the results of trials at which fidelity a trial is fitted, and which trials are promoted or pruned.

    ``sign`` is -1 where higher scores are better, else 1. A score times ``sign`` is called a loss: lower is better.
    """

    def __init__(self, description: Description, config: SearchConfig, n_trials: int, sign: float) -> None:
        self.halving, self.n_trials, self.sign = config.halving, n_trials, sign
        self.low_fidelity: LowFidelity | None = None
        if description.budget and config.halving and n_trials >= 3 * MIN_PROMOTED:
            self.low_fidelity = LowFidelity(n_trials, description.space)
        self.rungs = Rungs(FIRST_RUNG, MIN_STARTUP_TRIALS)
        self.subset_rungs = Rungs(1)
        self.on_subsets: bool | None = None if self.low_fidelity is None else False
        """True if trials are fitted on subsets of the training split first; None until the first fit has decided it."""
        self.overtime_trial: RunningTrial | None = None
        """Trial that may get a full fit after the deadline."""
        self.low_fidelity_times: list[float] = []
        """Seconds of each trial's first low-fidelity fit, sorted."""

    @property
    def uses_low_fidelity(self) -> bool:
        """True if trials get a low-fidelity fit before a full one: also until the low fidelity proves unreliable."""
        return self.low_fidelity is not None and self.low_fidelity.is_reliable is not False

    @property
    def startup_trials(self) -> int:
        """Number of trials that run before any result guides the search: a quarter of all, from `MIN_STARTUP_TRIALS` to
        `MAX_STARTUP_TRIALS`."""
        return max(min(self.n_trials // 4, MAX_STARTUP_TRIALS), MIN_STARTUP_TRIALS)

    @property
    def share_of_full_fit(self) -> float:
        """Mean cost of a trial, over promoted trials and others, as a share of the cost of a full fit."""
        if self.low_fidelity is None or not self.uses_low_fidelity:
            return 1.0
        return LOW_FIDELITY + self.low_fidelity.promoted_share

    def may_run_cohorts(self, n_rows: int) -> bool:
        """Tell whether trials that run alone may go through low fidelities in cohorts. ``n_rows`` counts the training rows."""
        return self.halving and self.n_trials > 1 and (self.low_fidelity is not None or n_rows >= MIN_SUBSET_ROWS)

    def fidelities_before_full(self, trial: RunningTrial) -> tuple[int, ...]:
        """Return the low fidelities at which a trial is fitted before its full fit, the lowest first.

        They are tenths of the budget or ninths of the training split. Empty if the trial skips them or their use is undecided.
        """
        if trial.full_fidelity or trial is self.overtime_trial:
            return ()
        return (1,) if self.uses_low_fidelity else (1, REDUCTION_FACTOR) if self.on_subsets else ()

    def cohort_fidelities(self) -> tuple[int, ...]:
        """Return the low fidelities that a cohort goes through, the lowest first, also while the use of subsets is undecided."""
        return (1, REDUCTION_FACTOR) if self.low_fidelity is None else (1,)

    def ninths_and_budget(self, fidelity: int) -> tuple[int, float]:
        """Return the ninths of the training split (1 to 9) and the budget (share of a full fit's epochs) of a fit at
        ``fidelity``."""
        if fidelity == FULL_FIDELITY:
            return FULL_FIDELITY, 1.0
        return (fidelity, 1.0) if self.low_fidelity is None else (FULL_FIDELITY, fidelity * LOW_FIDELITY)

    def record_partial(self, number: int, trial: RunningTrial, fidelity: int, score: float, seconds: float) -> None:
        """Record the validation score of a running trial at a low fidelity, and the seconds of that fit."""
        value = self.sign * score
        trial.partial[fidelity] = value
        if self.low_fidelity is not None:
            self.low_fidelity.record(number, fidelity, value, trial.reports.get(fidelity, 0), trial.params)
            if fidelity == 1:
                insort(self.low_fidelity_times, seconds)

    def record_end(self, number: int, trial: RunningTrial, status: str) -> None:
        """Record that a trial ended with ``status``, and the value of a complete trial. Raises ValueError if that value is None."""
        if status == Status.COMPLETE:
            if trial.value is None:
                raise ValueError(f"trial {number} is complete and has no value")
            self.rungs.record_final(number, len(trial.losses), self.sign * trial.value)
            if self.low_fidelity is not None:
                self.low_fidelity.record_final(number, self.sign * trial.value, len(trial.losses))
        elif self.low_fidelity is not None and status != Status.PRUNED:
            self.low_fidelity.discard(number)

    def facts(self, trial: RunningTrial, losses: Sequence[float | None]) -> TrialFacts:
        """Return a trial's facts for the store when it ends. ``losses`` are the reports of its full fit, None where not finite."""
        low = trial.partial if self.low_fidelity is not None else {}
        subsets = trial.partial if self.low_fidelity is None and self.on_subsets else {}
        reports = trial.reports if low else {}
        return TrialFacts(trial.seconds, losses, trial.error, trial.members, dict(low), dict(reports), dict(subsets))

    def load(self, fit: Fit) -> None:
        """Take over the results of a recorded trial: its reports, its losses at low fidelities and its final value."""
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
        """Tell whether a trial that runs alone should continue after its fit at ``fidelity``. The call may promote the trial."""
        if self.low_fidelity is not None:
            return not self.low_fidelity.is_reliable or number in self.low_fidelity.promote([number]) or number == 0
        return not self.subset_rungs.losers(fidelity, {number: trial.partial[fidelity]})

    def losers_at(self, step: int, reported: Mapping[int, Sequence[float]]) -> set[int]:
        """Return the numbers of the trials to prune after their report number ``step``, counted from 1.

        ``reported`` holds all losses that each trial has reported, by trial number. Between rungs the call returns at once: reports
        may be many.
        """
        if not self.halving or self.low_fidelity is not None or not self.rungs.is_rung(step):
            return set()
        return self.rungs.losers(step, {number: lowest_loss(losses) for number, losses in reported.items()})

    def report_without_budget(self, *, only_partial: bool) -> bool:
        """Take note that a fit on a subset of the training split reports losses: trials then need no subsets.

        Returns True to stop the fit. Returns False, and changes nothing, if the submission has a budget or the trial goes on to
        further fidelities (``only_partial`` is False).
        """
        if self.low_fidelity is not None or not only_partial:
            return False
        self.on_subsets = False  # a trial that reports losses needs no subsets
        return True

    def record_subset_seconds(self, seconds: float) -> None:
        """Decide by the seconds of the first fit on a subset whether trials run on subsets. Later calls change nothing."""
        if self.on_subsets is None:
            self.on_subsets = seconds >= LONG_FIT_SECONDS

    def is_rejected(self, number: int) -> bool:
        """Tell whether a running trial has had its low-fidelity fit and was not promoted."""
        low = self.low_fidelity
        return low is not None and number in low.losses[1] and number not in low.promoted

    def predictions(self, params: Mapping[int, Mapping[str, Any]]) -> list[Prediction] | None:
        """Return predictions of the final values of the trials in ``params``, which holds hyperparameters by trial number.

        Empty before there are enough full fits; None if trials skip the low fidelity.
        """
        if self.low_fidelity is None or not self.uses_low_fidelity:
            return None
        if not self.low_fidelity.can_predict:
            return []
        finals = self.low_fidelity.finals
        predicted = self.low_fidelity.predict_final()
        return [Prediction(params[one], value, one in finals) for one, value in predicted.items() if one in params]

    def promote(self, candidates: Collection[int]) -> set[int]:
        """Promote the best of the candidates; return the numbers of all candidates promoted so far, and 0.

        Trial 0, the plug-in's defaults, is always promoted: no search ends below what its author knew. Without a low fidelity all
        candidates are returned.
        """
        return set(candidates) if self.low_fidelity is None else self.low_fidelity.promote(candidates) | {0}

    def furthest(self, running: Collection[RunningTrial]) -> RunningTrial | None:
        """Return the best of the running trials at the highest fidelity that any of them has reached; None if none has had a fit.

        With low-fidelity trials, this is the best one after the first low-fidelity fit.
        """
        started = [trial for trial in running if 1 in trial.partial]
        fidelity = 1 if self.low_fidelity is not None else max((max(trial.partial) for trial in started), default=1)
        candidates = [trial for trial in started if fidelity in trial.partial]
        return min(candidates, key=lambda trial: trial.partial[fidelity], default=None)
