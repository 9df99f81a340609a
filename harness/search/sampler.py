"""What a search knows and asks: an in-memory Optuna study that is rebuilt from the store, so that a search goes on where it
stopped.

It minimises: metrics where higher is better are negated. Each question depends on the trial's number alone beside the history, not
on how many processes it took to get there.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from typing import Any, TypeVar

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from harness.contract import Distribution
from harness.plugins.description import Description
from harness.search.importance import ped_anova
from harness.search.low_fidelity import BAD, Foreseen
from leaderboard.store.store import Fit

SEARCH_SEED = 0
MOST, BEST, SPREAD = 1500, 150, 600
"""Trials that the sampler looks at, at most. Beyond that it goes on with the best and an even spread of the rest: its cost grows
with what it looks at, and it models no more than 25 good ones anyway."""
STARTED, FORGOTTEN = 10, 200
"""Trials that have ended from which, and up to which, a Gaussian process is asked: its cost grows with their cube."""
NEAREST = 3
"""Finished trials that a pruned one is likened to."""
ENOUGH = 10
"""Finished trials from which importances are worth telling."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


def middle(distribution: Distribution) -> Any:
    """The value to try first where a plug-in names none: the (logarithmic) middle, or the first choice."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    low, high = float(distribution.low), float(distribution.high)
    value = math.sqrt(low * high) if distribution.log else (low + high) / 2
    if distribution.step:
        value = low + round((value - low) / distribution.step) * distribution.step
    return int(value) if isinstance(distribution, IntDistribution) else value


def first_guess(description: Description) -> dict[str, Any]:
    return {name: description.defaults.get(name, middle(space)) for name, space in description.space.items()}


ONE = threading.Lock()
T = TypeVar("T")


class Study:
    """Questions by number, answers by `Fit`. Not thread-safe.

    The plug-in's own guess is asked first, then ``first``, configurations that did well elsewhere. Then a tree-structured Parzen
    estimator is asked (Bergstra et al. 2011), and, where fits take long, a Gaussian process every second time: that takes a tenth
    of a second and more, and finds the best of a smooth function in fewer trials.
    """

    def __init__(
        self,
        description: Description,
        *,
        higher_is_better: bool,
        first: Sequence[Mapping[str, Any]] = (),
        seed: int = SEARCH_SEED,
    ) -> None:
        self.seed = seed
        self.space = dict(description.space)
        guess = first_guess(description)
        self.first = [guess, *({name: params.get(name, guess[name]) for name in guess} for params in first)]
        self.sign = -1.0 if higher_is_better else 1.0
        self.study, self.storage = in_memory()
        self.thinned = False
        self.assumed: list[Foreseen] | None = None
        """What to go by instead of what it was told, less is better."""
        self.assuming = self.study, self.storage
        self.ended: list[Fit] = []
        """What it was told, but for failures."""

    def assume(self, known: Sequence[Foreseen] | None) -> None:
        """Go by what is foreseen of trials, and not by what was told, unless it is None."""
        if known is None:
            self.assumed = None
            return
        known = sorted(known, key=lambda one: one.value)
        self.assumed = [*known[:BEST], *spread(known[BEST:])]
        self.assuming = in_memory()
        self.assuming[0].add_trials(
            optuna.trial.create_trial(params=dict(one.params), distributions=self.space, value=one.value)
            for one in self.assumed
        )

    def question(
        self, number: int, beside: Sequence[Mapping[str, Any]] | None = None
    ) -> tuple[Callable[[], dict[str, Any]], bool]:
        """What gives the parameters of a trial, and whether they are a Gaussian process's. It holds what it takes of what is known
        now, and may be called by any thread, also while this study is told more: an answer may take its time. To ask again is to
        get the same, unless more is known by then.

        ``beside`` are those of trials that are under way, where a fit takes long; None where it does not.
        """
        if number < len(self.first):
            return partial(dict, self.first[number]), False
        if beside is not None and number % 2:
            known = self.regarded()
            if len(known) >= STARTED:
                return partial(self.considered, number, known, beside), True
        return partial(dict, self.estimated(number)), False

    def regarded(self) -> list[tuple[dict[str, Any], float]]:
        """What a Gaussian process is told: parameters and values, less is better."""
        if self.assumed is None:
            return expected(self.ended, self.sign) if STARTED <= len(self.ended) <= FORGOTTEN else []
        # Drafts tell what is bad. For the choice between good ones they are too coarse.
        return [(dict(one.params), one.value) for one in self.assumed if one.whole or one.value > BAD][:FORGOTTEN]

    def estimated(self, number: int) -> dict[str, Any]:
        """What a Parzen estimator expects most of."""
        sampler = optuna.samplers.TPESampler(
            seed=1_000_000 * self.seed + number, multivariate=True, constant_liar=False
        )
        trial = optuna.trial.create_trial(state=TrialState.RUNNING)
        # A study object keeps the trials that it saw when it was first asked: each question needs one of its own.
        told, storage = (self.study, self.storage) if self.assumed is None else self.assuming
        study = optuna.load_study(study_name=told.study_name, storage=storage)
        found = sampler.sample_relative(study, trial, self.space)
        return {
            name: found[name] if name in found else sampler.sample_independent(study, trial, name, space)
            for name, space in self.space.items()
        }

    def considered(
        self, number: int, known: Sequence[tuple[dict[str, Any], float]], beside: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """What a Gaussian process expects most of, beside what is under way (log expected improvement, Ament et al. 2023)."""
        with one_thread():
            sampler = optuna.samplers.GPSampler(
                seed=1_000_000 * self.seed + number, n_startup_trials=0, warn_independent_sampling=False
            )
            study = optuna.create_study(direction="minimize", sampler=sampler)
            for params, value in known:
                study.add_trial(optuna.trial.create_trial(params=params, distributions=self.space, value=value))
            for asked in map(dict, beside):
                running = optuna.trial.create_trial(params=asked, distributions=self.space, state=TrialState.RUNNING)
                study.add_trial(running)
            return dict(study.ask(self.space).params)

    def tell(self, fit: Fit) -> None:
        """Take up a trial that has ended. Failed ones teach nothing."""
        state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(fit.status)
        if state is None or (state is TrialState.COMPLETE and fit.value is None):
            return
        self.ended.append(fit)
        steps = taught(fit)
        last = dict([max(steps.items())]) if steps else {}
        value = self.sign * fit.value if state is TrialState.COMPLETE and fit.value is not None else None
        self.study.add_trial(
            optuna.trial.create_trial(
                state=state, params=fit.params, distributions=self.space, intermediate_values=last, value=value
            )
        )
        if len(self.study.get_trials(deepcopy=False)) > MOST:
            self.thin()

    def thin(self) -> None:
        trials = self.study.get_trials(deepcopy=False)
        order = sorted(range(len(trials)), key=lambda place: standing(trials[place]))
        kept = sorted([*order[:BEST], *spread(sorted(order[BEST:]))])
        self.study, self.storage = in_memory()
        self.study.add_trials([trials[place] for place in kept])
        self.thinned = True


def in_memory() -> tuple[optuna.Study, optuna.storages.InMemoryStorage]:
    """A new study that minimises, and where it is kept."""
    storage = optuna.storages.InMemoryStorage()
    return optuna.create_study(direction="minimize", storage=storage), storage


def spread(rest: Sequence[T]) -> Sequence[T]:
    """At most so many of these as are remembered beside the best, evenly."""
    return rest[:: max(len(rest) // SPREAD, 1)][:SPREAD]


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch, and one of us at a time: the other cores are the fits'."""
    import torch  # here, not above: it takes seconds

    with ONE:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def taught(fit: Fit) -> dict[int, float]:
    """What a trial's steps came to, finite ones: its reported losses, or the losses on parts of the training split by ninths, or
    that of its first draft."""
    reported = {step: loss for step, loss in enumerate(fit.facts.get("losses", []), start=1) if loss is not None}
    parts = fit.facts.get("parts") or {step: loss for step, loss in fit.facts.get("drafts", {}).items() if step == "1"}
    return reported or {int(ninths): loss for ninths, loss in parts.items()}


def drafted(fits: Sequence[Fit]) -> list[tuple[dict[str, Any], float]]:
    """Parameters, and what they came to as drafts, less is better."""
    return [(dict(fit.params), fit.facts["drafts"]["1"]) for fit in fits if "1" in fit.facts.get("drafts", {})]


def expected(fits: Sequence[Fit], sign: float) -> list[tuple[dict[str, Any], float]]:
    """Parameters and values, less is better; of a pruned trial what those came to that were nearest to it where it ended."""
    climbed = [(fit, lows(fit), None if fit.value is None else sign * fit.value) for fit in fits]
    found = []
    for fit, own, value in climbed:
        if value is not None:
            found.append((fit.params, value))
        elif own:
            last = max(own)
            near = sorted(
                (abs(low[last] - own[last]), end) for _, low, end in climbed if end is not None and last in low
            )
            if near:
                found.append((fit.params, sum(end for _, end in near[:NEAREST]) / len(near[:NEAREST])))
    return found


def lows(fit: Fit) -> dict[int, float]:
    """The lowest of what a trial's steps came to so far, by step."""
    steps = sorted(taught(fit).items())
    return dict(zip((step for step, _ in steps), accumulate((loss for _, loss in steps), min)))


def standing(trial: FrozenTrial) -> tuple[float, float]:
    """As the sampler orders trials: finished ones by value, then pruned ones, those that came further first."""
    if trial.value is not None:
        return (-math.inf, trial.value)
    step, loss = max(trial.intermediate_values.items(), default=(0, math.inf))
    return (-step, loss)


def importance(space: Mapping[str, Distribution], fits: Sequence[Fit], *, higher_is_better: bool) -> dict[str, float]:
    """Shares that add up to 1, the largest first. Where trials were drafted by what they came to then; else pruned ones count as
    worse than any finished one."""
    fits = [fit for fit in fits if fit.status in ("complete", "pruned")]
    finished = [fit.value for fit in fits if fit.status == "complete" and fit.value is not None]
    if len(finished) < 2 or len(fits) < ENOUGH:
        return {}
    sign = -1.0 if higher_is_better else 1.0
    worst = max(sign * value for value in finished)
    values = [
        (fit.params, sign * fit.value if fit.status == "complete" and fit.value is not None else worst) for fit in fits
    ]
    drafts = drafted(fits)
    return ped_anova(space, drafts if len(drafts) == len(fits) else values)
