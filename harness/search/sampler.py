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
"""Maximum number of trials in the Optuna study, and numbers of the best and of other trials that are kept when there are more.

The cost of a suggestion grows with the study, and the Parzen estimator models no more than 25 good trials anyway.
"""
GP_MIN_TRIALS, GP_MAX_TRIALS = 10, 200
"""Smallest and largest number of trials that a Gaussian process is fitted to: its cost grows with the cube of the number."""
NEAREST_TRIALS = 3
"""Number of complete trials whose values estimate the final value of a pruned trial."""
MIN_FOR_IMPORTANCE = 10
"""Smallest number of complete and pruned trials at which importances are computed."""


TRIAL_STATES: Mapping[str, TrialState] = {Status.COMPLETE: TrialState.COMPLETE, Status.PRUNED: TrialState.PRUNED}
"""Optuna's trial state by status, for the trials that the sampler learns from. Failed trials teach it nothing."""


def midpoint(distribution: Distribution) -> Any:
    """Return the middle of a hyperparameter's range (logarithmic if the range is), or its first choice.

    This is the default of a hyperparameter for which the plug-in gives none.
    """
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    low, high = float(distribution.low), float(distribution.high)
    value = math.sqrt(low * high) if distribution.log else (low + high) / 2
    if distribution.step:
        value = low + round((value - low) / distribution.step) * distribution.step
    return int(value) if isinstance(distribution, IntDistribution) else value


def default_params(description: Description) -> dict[str, Any]:
    """Return the plug-in's default of each hyperparameter by name; its `midpoint` where the plug-in gives none."""
    return {name: description.defaults.get(name, midpoint(space)) for name, space in description.space.items()}


GP_LOCK = threading.Lock()
T = TypeVar("T")


class Sampler:
    """Sampler of a search: suggests hyperparameters by trial number, and learns from complete and pruned trials. Not thread-safe.

    Trial 0 gets the plug-in's defaults, and the trials after it the configurations in ``first``, which did well elsewhere. Further
    suggestions come from a tree-structured Parzen estimator (Bergstra et al. 2011). Where fits are slow, a Gaussian process makes
    every second suggestion: that takes a tenth of a second or more, but finds the optimum of a smooth function in fewer trials.
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
        """Predicted final values that replace the observations; None to use the observations."""
        self.predicted_study = self.study, self.storage
        self.observations: list[Fit] = []
        """Complete and pruned trials that the sampler was told of."""

    def set_predictions(self, predictions: Sequence[Prediction] | None) -> None:
        """Base further suggestions on predicted final values in place of the observations; None goes back to the observations."""
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
        """Return a function that computes the hyperparameters of a trial, and True if a Gaussian process makes them.

        The function may be slow. Any thread may call it, also while the sampler is told of more trials: it uses only the
        observations up to now, and returns the same at every call.

        ``pending`` holds the hyperparameters of the pending trials; None if fits are fast, so that no Gaussian process is used.
        """
        if number < len(self.initial_params):
            return partial(dict, self.initial_params[number]), False
        if pending is not None and number % 2:
            observations = self.gp_observations()
            if len(observations) >= GP_MIN_TRIALS:
                return partial(self.suggest_gp, number, observations, pending), True
        return partial(dict, self.suggest_tpe(number)), False

    def gp_observations(self) -> list[tuple[dict[str, Any], float]]:
        """Return pairs of hyperparameters and final value that a Gaussian process is fitted to; lower values are better.

        Empty if there are too few or too many observations.
        """
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
        """Return the hyperparameters that a tree-structured Parzen estimator suggests for a trial."""
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
        """Return the hyperparameters that a Gaussian process suggests for a trial (log expected improvement, Ament et al. 2023).

        ``observations`` are pairs of hyperparameters and value, lower is better; ``pending`` are the hyperparameters of pending
        trials.
        """
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
        """Add a complete or pruned trial to the observations. Failed trials are ignored."""
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
        """Reduce the Optuna study to its `KEPT_BEST` best trials and at most `KEPT_OTHERS` other trials, see `evenly_spaced`."""
        trials = self.study.get_trials(deepcopy=False)
        order = sorted(range(len(trials)), key=lambda index: sampler_order(trials[index]))
        kept = sorted([*order[:KEPT_BEST], *evenly_spaced(sorted(order[KEPT_BEST:]))])
        self.study, self.storage = in_memory()
        self.study.add_trials([trials[index] for index in kept])
        self.is_subsampled = True


def in_memory() -> tuple[optuna.Study, optuna.storages.InMemoryStorage]:
    """Return a new Optuna study that minimises, and its in-memory storage."""
    storage = optuna.storages.InMemoryStorage()
    return optuna.create_study(direction="minimize", storage=storage), storage


def evenly_spaced(items: Sequence[T]) -> Sequence[T]:
    """Return at most `KEPT_OTHERS` of the items, at equal distances from the first on. The last items may be left out."""
    return items[:: max(len(items) // KEPT_OTHERS, 1)][:KEPT_OTHERS]


@contextmanager
def single_threaded() -> Iterator[None]:
    """Limit torch to one thread in a ``with`` block, which one caller at a time may enter: the other cores belong to the fits."""
    import torch  # here, not above: it takes seconds

    with GP_LOCK:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def intermediate_values(fit: Fit) -> dict[int, float]:
    """Return losses of a recorded trial by step.

    The steps are the reports of the full fit, without losses that are not finite. If there are none, they are ninths of the
    training split; and without fits on subsets, 1 for the first low-fidelity fit.
    """
    facts = TrialFacts.of(fit)
    reported = {step: loss for step, loss in enumerate(facts.losses, start=1) if loss is not None}
    first = {fidelity: loss for fidelity, loss in facts.low_fidelity.items() if fidelity == 1}
    return reported or dict(facts.subsets) or first


def low_fidelity_observations(fits: Sequence[Fit]) -> list[tuple[dict[str, Any], float]]:
    """Return pairs of hyperparameters and low-fidelity loss, for the trials that have one; lower is better."""
    return [
        (dict(fit.params), facts.low_fidelity[1]) for fit in fits if 1 in (facts := TrialFacts.of(fit)).low_fidelity
    ]


def full_fit_estimates(fits: Sequence[Fit], sign: float) -> list[tuple[dict[str, Any], float]]:
    """Return pairs of hyperparameters and final value of trials; lower is better. ``sign`` is -1 where higher scores are better.

    A pruned trial gets an estimate: the mean value of the `NEAREST_TRIALS` complete trials whose losses were nearest to its own, at
    the step at which it was pruned. It is left out if no complete trial has a loss at that step.
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
    """Return the lowest loss so far at each step of a recorded trial, by step as in `intermediate_values`."""
    steps = sorted(intermediate_values(fit).items())
    return dict(zip((step for step, _ in steps), accumulate((loss for _, loss in steps), min)))


def sampler_order(trial: FrozenTrial) -> tuple[float, float]:
    """Return a sort key, the best first: complete trials by value, then pruned trials, the latest pruned first."""
    if trial.value is not None:
        return (-math.inf, trial.value)
    step, loss = max(trial.intermediate_values.items(), default=(0, math.inf))
    return (-step, loss)


def importance(space: Mapping[str, Distribution], fits: Sequence[Fit], *, higher_is_better: bool) -> dict[str, float]:
    """Return each hyperparameter's share of the importance by name, the largest first; the shares add up to 1.

    Low-fidelity losses are used if all trials have one. Otherwise final values are used, and pruned trials count as the worst
    complete one. The result is empty with too few trials.
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
