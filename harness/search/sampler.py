"""Sampler of a search: an in-memory Optuna study that is rebuilt from the store, so that an interrupted search can continue.

It minimises: metrics where higher is better are negated. A suggestion depends on the recorded trials and on the trial's number, not
on how many processes the search has run in.
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
from harness.search.low_fidelity import CLEARLY_BAD, Prediction
from leaderboard.result import Status
from leaderboard.store.facts import TrialFacts
from leaderboard.store.store import Fit

SEARCH_SEED = 0
MAX_OBSERVATIONS, KEPT_BEST, KEPT_OTHERS = 1500, 150, 600
"""Maximum number of trials in the Optuna study. Above it the best are kept, and an even sample of the others.

The cost of a suggestion grows with the study, and the Parzen estimator models no more than 25 good trials anyway.
"""
GP_MIN_TRIALS, GP_MAX_TRIALS = 10, 200
"""Bounds on the finished trials with which a Gaussian process is used: its cost grows with their cube."""
NEAREST_TRIALS = 3
"""Number of finished trials whose values estimate the final value of a pruned trial."""
MIN_FOR_IMPORTANCE = 10
"""Finished trials from which on importances are computed."""


TRIAL_STATES: Mapping[str, TrialState] = {Status.COMPLETE: TrialState.COMPLETE, Status.PRUNED: TrialState.PRUNED}
"""Optuna's states of trials that teach something."""


def midpoint(distribution: Distribution) -> Any:
    """Return the default of a hyperparameter without one: the (logarithmic) middle of its range, or its first choice."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    low, high = float(distribution.low), float(distribution.high)
    value = math.sqrt(low * high) if distribution.log else (low + high) / 2
    if distribution.step:
        value = low + round((value - low) / distribution.step) * distribution.step
    return int(value) if isinstance(distribution, IntDistribution) else value


def default_params(description: Description) -> dict[str, Any]:
    """Return the plug-in's defaults, completed with midpoints."""
    return {name: description.defaults.get(name, midpoint(space)) for name, space in description.space.items()}


GP_LOCK = threading.Lock()
T = TypeVar("T")


class Sampler:
    """Suggests hyperparameters by trial number, and learns from finished trials. Not thread-safe.

    It suggests the plug-in's defaults, then ``first``: configurations that did well elsewhere. Then it uses a tree-structured
    Parzen estimator (Bergstra et al. 2011). Where fits are slow, a Gaussian process makes every second suggestion: that takes a
    tenth of a second or more, but finds the optimum of a smooth function in fewer trials.
    """

    def __init__(
        self,
        description: Description,
        *,
        higher_is_better: bool,
        first: Sequence[Mapping[str, Any]] = (),
        seed: int = SEARCH_SEED,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.seed = seed
        self.space = dict(description.space)
        defaults = default_params(description)
        self.initial_params = [
            defaults,
            *({name: params.get(name, defaults[name]) for name in defaults} for params in first),
        ]
        self.sign = -1.0 if higher_is_better else 1.0
        self.study, self.storage = in_memory()
        self.is_subsampled = False
        self.predicted: list[Prediction] | None = None
        """Predictions that replace the observations, if not None; lower is better."""
        self.predicted_study = self.study, self.storage
        self.observations: list[Fit] = []
        """Finished and pruned trials."""

    def set_predictions(self, predictions: Sequence[Prediction] | None) -> None:
        """Base suggestions on predictions in place of the observations; None goes back to the observations."""
        if predictions is None:
            self.predicted = None
            return
        predictions = sorted(predictions, key=lambda prediction: prediction.value)
        self.predicted = [*predictions[:KEPT_BEST], *evenly_spaced(predictions[KEPT_BEST:])]
        self.predicted_study = in_memory()
        self.predicted_study[0].add_trials(
            optuna.trial.create_trial(params=dict(prediction.params), distributions=self.space, value=prediction.value)
            for prediction in self.predicted
        )

    def suggest(
        self, number: int, pending: Sequence[Mapping[str, Any]] | None = None
    ) -> tuple[Callable[[], dict[str, Any]], bool]:
        """Return a function that computes the hyperparameters of a trial, and whether a Gaussian process makes them.

        The function holds the current observations. Any thread may call it, also while the sampler is told of more trials: it may
        be slow. With the same observations it returns the same again.

        ``pending`` are the hyperparameters of pending trials if fits are slow, else None.
        """
        if number < len(self.initial_params):
            return partial(dict, self.initial_params[number]), False
        if pending is not None and number % 2:
            observations = self.gp_observations()
            if len(observations) >= GP_MIN_TRIALS:
                return partial(self.suggest_gp, number, observations, pending), True
        return partial(dict, self.suggest_tpe(number)), False

    def gp_observations(self) -> list[tuple[dict[str, Any], float]]:
        """Return the hyperparameters and values that a Gaussian process is fitted to; lower is better."""
        if self.predicted is None:
            return (
                full_fit_estimates(self.observations, self.sign)
                if GP_MIN_TRIALS <= len(self.observations) <= GP_MAX_TRIALS
                else []
            )
        # Low-fidelity trials tell which trials are bad; they are too coarse to choose between good ones.
        return [
            (dict(prediction.params), prediction.value)
            for prediction in self.predicted
            if prediction.measured or prediction.value > CLEARLY_BAD
        ][:GP_MAX_TRIALS]

    def suggest_tpe(self, number: int) -> dict[str, Any]:
        """Return the suggestion of a tree-structured Parzen estimator."""
        sampler = optuna.samplers.TPESampler(
            seed=1_000_000 * self.seed + number, multivariate=True, constant_liar=False
        )
        trial = optuna.trial.create_trial(state=TrialState.RUNNING)
        # A study object caches the trials that it saw at its first suggestion: each suggestion needs its own object.
        source, storage = (self.study, self.storage) if self.predicted is None else self.predicted_study
        study = optuna.load_study(study_name=source.study_name, storage=storage)
        relative = sampler.sample_relative(study, trial, self.space)
        return {
            name: relative[name] if name in relative else sampler.sample_independent(study, trial, name, space)
            for name, space in self.space.items()
        }

    def suggest_gp(
        self,
        number: int,
        observations: Sequence[tuple[dict[str, Any], float]],
        pending: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Return the suggestion of a Gaussian process given pending trials (log expected improvement, Ament et al. 2023)."""
        with single_threaded():
            sampler = optuna.samplers.GPSampler(
                seed=1_000_000 * self.seed + number, n_startup_trials=0, warn_independent_sampling=False
            )
            study = optuna.create_study(direction="minimize", sampler=sampler)
            for params, value in observations:
                study.add_trial(optuna.trial.create_trial(params=params, distributions=self.space, value=value))
            for params in map(dict, pending):
                running = optuna.trial.create_trial(params=params, distributions=self.space, state=TrialState.RUNNING)
                study.add_trial(running)
            return dict(study.ask(self.space).params)

    def tell(self, fit: Fit) -> None:
        """Add a finished or pruned trial to the observations. Failed trials are ignored."""
        state = TRIAL_STATES.get(fit.status)
        if state is None or (state is TrialState.COMPLETE and fit.value is None):
            return
        self.observations.append(fit)
        losses = intermediate_values(fit)
        last = dict([max(losses.items())]) if losses else {}
        value = self.sign * fit.value if state is TrialState.COMPLETE and fit.value is not None else None
        self.study.add_trial(
            optuna.trial.create_trial(
                state=state, params=fit.params, distributions=self.space, intermediate_values=last, value=value
            )
        )
        if len(self.study.get_trials(deepcopy=False)) > MAX_OBSERVATIONS:
            self.subsample()

    def subsample(self) -> None:
        """Reduce the study to its best trials and an even sample of the others."""
        trials = self.study.get_trials(deepcopy=False)
        order = sorted(range(len(trials)), key=lambda index: sampler_order(trials[index]))
        kept = sorted([*order[:KEPT_BEST], *evenly_spaced(sorted(order[KEPT_BEST:]))])
        self.study, self.storage = in_memory()
        self.study.add_trials([trials[index] for index in kept])
        self.is_subsampled = True


def in_memory() -> tuple[optuna.Study, optuna.storages.InMemoryStorage]:
    """Return a new study that minimises, and its storage."""
    storage = optuna.storages.InMemoryStorage()
    return optuna.create_study(direction="minimize", storage=storage), storage


def evenly_spaced(items: Sequence[T]) -> Sequence[T]:
    """Return at most `KEPT_OTHERS` of the items, evenly spaced."""
    return items[:: max(len(items) // KEPT_OTHERS, 1)][:KEPT_OTHERS]


@contextmanager
def single_threaded() -> Iterator[None]:
    """Limit torch to one thread, and this block to one caller at a time: the other cores belong to the fits."""
    import torch  # here, not above: it takes seconds

    with GP_LOCK:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def intermediate_values(fit: Fit) -> dict[int, float]:
    """Return a trial's finite losses: by report, by subset in ninths, or that of its first low-fidelity fit under 1."""
    facts = TrialFacts.of(fit)
    reported = {step: loss for step, loss in enumerate(facts.losses, start=1) if loss is not None}
    first = {fidelity: loss for fidelity, loss in facts.low_fidelity.items() if fidelity == 1}
    return reported or dict(facts.subsets) or first


def low_fidelity_observations(fits: Sequence[Fit]) -> list[tuple[dict[str, Any], float]]:
    """Return hyperparameters and low-fidelity losses of the trials that have one; lower is better."""
    return [
        (dict(fit.params), facts.low_fidelity[1]) for fit in fits if 1 in (facts := TrialFacts.of(fit)).low_fidelity
    ]


def full_fit_estimates(fits: Sequence[Fit], sign: float) -> list[tuple[dict[str, Any], float]]:
    """Return hyperparameters and final values of trials; lower is better.

    The value of a pruned trial is the mean of the finished trials whose losses were nearest to its own where it was pruned.
    """
    curves = [(fit, running_minimum(fit), None if fit.value is None else sign * fit.value) for fit in fits]
    estimates = []
    for fit, curve, value in curves:
        if value is not None:
            estimates.append((fit.params, value))
        elif curve:
            last = max(curve)
            nearest = sorted(
                (abs(other[last] - curve[last]), final)
                for _, other, final in curves
                if final is not None and last in other
            )
            if nearest:
                estimates.append(
                    (
                        fit.params,
                        sum(final for _, final in nearest[:NEAREST_TRIALS]) / len(nearest[:NEAREST_TRIALS]),
                    )
                )
    return estimates


def running_minimum(fit: Fit) -> dict[int, float]:
    """Return the lowest loss so far at each of a trial's steps."""
    steps = sorted(intermediate_values(fit).items())
    return dict(zip((step for step, _ in steps), accumulate((loss for _, loss in steps), min)))


def sampler_order(trial: FrozenTrial) -> tuple[float, float]:
    """Return a sort key, the best first: finished trials by value, then pruned trials, the latest pruned first."""
    if trial.value is not None:
        return (-math.inf, trial.value)
    step, loss = max(trial.intermediate_values.items(), default=(0, math.inf))
    return (-step, loss)


def importance(space: Mapping[str, Distribution], fits: Sequence[Fit], *, higher_is_better: bool) -> dict[str, float]:
    """Return each hyperparameter's share of the importance, the largest first; the shares add up to 1. Empty with too few trials.

    Low-fidelity losses are used if all trials have one. Otherwise final values are used, and pruned trials count as the worst
    finished one.
    """
    fits = [fit for fit in fits if fit.status in (Status.COMPLETE, Status.PRUNED)]
    finished = [fit.value for fit in fits if fit.status == Status.COMPLETE and fit.value is not None]
    if len(finished) < 2 or len(fits) < MIN_FOR_IMPORTANCE:
        return {}
    sign = -1.0 if higher_is_better else 1.0
    worst = max(sign * value for value in finished)
    values = [
        (fit.params, sign * fit.value if fit.status == Status.COMPLETE and fit.value is not None else worst)
        for fit in fits
    ]
    at_low_fidelity = low_fidelity_observations(fits)
    return ped_anova(space, at_low_fidelity if len(at_low_fidelity) == len(fits) else values)
