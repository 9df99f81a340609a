"""Names for plug-in authors: tasks, data, kinds, submissions, search spaces and errors.

Everything here is data or an abstract class; nothing loads a framework. The packages above (kinds, execution, scoring, search)
are written against these names.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution as Distribution
from optuna.distributions import CategoricalDistribution as Categorical
from optuna.distributions import FloatDistribution as Float
from optuna.distributions import IntDistribution as Int

from harness import deprecated
from harness.errors import BakeoffError, DataError, InvalidPrediction, PluginError, UsageError

__all__ = [
    "Array",
    "BakeoffError",
    "Categorical",
    "Data",
    "DataError",
    "Distribution",
    "Float",
    "Int",
    "InvalidPrediction",
    "Kind",
    "Limits",
    "Measure",
    "Metric",
    "OutputSpec",
    "PluginError",
    "Reader",
    "Split",
    "Submission",
    "Task",
    "UsageError",
]

Array = NDArray[Any]
Reader = Callable[[Sequence[Array]], Array]


MAX_SECONDS = 1e8
"""Longest time limit, three years."""


@deprecated.renamed_field("about", "metadata")
@dataclass(frozen=True)
class Split:
    """Inputs and targets, first axis aligned.

    The kind says what ``x`` and ``y`` hold: see the docstrings of `harness.kinds`. ``y`` is None where it is hidden.

    ``unlabelled`` are further inputs like those of ``x``, of any number and without targets: a semi-supervised task gives them
    with its train split. ``metadata`` holds facts of the rows, one value each, such as file names, sizes or times. The leak checks
    of `bakeoff check` read it; no submission is ever given it.
    """

    x: Array
    y: Array | None = None
    unlabelled: Array | None = None
    metadata: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.y is not None and len(self.x) != len(self.y):
            raise DataError(
                f"a split needs as many targets as inputs; it has {len(self.x)} inputs and {len(self.y)} targets"
            )
        for name, values in self.metadata.items():
            if len(values) != len(self.x):
                raise DataError(f"a split of {len(self.x)} inputs should know {name} of each; it has {len(values)}")
        if self.unlabelled is not None and self.unlabelled.shape[1:] != self.x.shape[1:]:
            raise DataError(
                f"inputs without targets should be like those with them; they are {self.unlabelled.shape} beside {self.x.shape}"
            )

    def __len__(self) -> int:
        return len(self.x)

    @property
    def labels(self) -> Array:
        """Targets ``y``. Raises DataError if they are hidden."""
        if self.y is None:
            raise DataError("the targets of this split are hidden")
        return self.y


@dataclass(frozen=True)
class Data:
    """Three fixed splits of a task. Submissions fit on ``train`` and ``valid``; ``test.y`` never leaves the parent process."""

    train: Split
    valid: Split
    test: Split

    def sha256(self) -> str:
        """Return a hash of every array's dtype, shape and bytes, in a fixed order."""
        digest = hashlib.sha256()
        for split in (self.train, self.valid, self.test):
            for array in (split.x, split.labels, *(() if split.unlabelled is None else (split.unlabelled,))):
                digest.update(f"{array.dtype.str}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class OutputSpec:
    """Name, shape and dtype that an answer may have. Every axis is fixed: the child never chooses a size."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def accepts(self, answer: Array) -> bool:
        """Tell whether an answer has this shape and a fitting dtype.

        Any float fits a float and any integer a signed integer. Other dtypes must be equal.
        """
        wanted = np.dtype(self.dtype)
        kinds = {"i": "iu", "f": "f"}.get(wanted.kind)
        fits = answer.dtype == wanted if kinds is None else answer.dtype.kind in kinds
        return fits and answer.shape == tuple(self.shape)

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {self.shape}"


@dataclass(frozen=True)
class Metric:
    """Name of a metric, its direction, and a short unit or explanation for tables."""

    name: str
    higher_is_better: bool
    help: str = ""

    @property
    def loss_sign(self) -> float:
        """Factor that makes a loss of a value, so that lower is better: -1.0 where higher is better, else 1.0."""
        return -1.0 if self.higher_is_better else 1.0


@dataclass(frozen=True)
class Measure:
    """Metric of one set of predictions, to be computed over any subset or resample of the samples.

    ``of(index)`` is the metric over the samples at ``index`` (int64, repeats allowed). Where the metric is a mean over
    samples, ``values`` (n,) float64 holds the value of each sample.
    """

    of: Callable[[Array], float]
    values: Array | None = None

    @classmethod
    def mean_of(cls, values: Array) -> Measure:
        """Return a measure that is the mean of per-sample values (n,)."""
        values = np.asarray(values, dtype=np.float64)
        return cls(of=lambda index: float(values[index].mean()), values=values)


@deprecated.renamed_methods(deprecated.KIND_METHODS)
@dataclass(frozen=True)
class Kind(ABC):
    """Meaning of a task's arrays, its valid answers, and how they are measured and drawn.

    A kind is a frozen dataclass. Its fields (plain numbers and strings) are the constants of one task: classes, horizon, and so on.
    """

    name: ClassVar[str]
    metrics: ClassVar[Sequence[Metric]]

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        deprecated.adopt_methods(cls, deprecated.KIND_METHODS)

    @abstractmethod
    def check(self, data: Data) -> None:
        """Raise DataError if the arrays do not fit this kind."""

    @abstractmethod
    def output_specs(self, x: Array) -> Sequence[OutputSpec]:
        """Return the shapes and dtypes that ``predict(x)`` may answer with, preferred first."""

    @abstractmethod
    def verify(self, answer: Array, x: Array) -> None:
        """Raise InvalidPrediction if values are out of range. Shape and dtype are right when this is called."""

    @abstractmethod
    def measure(self, answer: Array, split: Split, train: Split) -> Mapping[str, Measure]:
        """Return every metric of the kind for ``answer`` to ``split.x``. The truth is ``split.y``."""

    def queries(self, x: Array, rng: np.random.Generator) -> tuple[Sequence[Array], Reader]:
        """Return the queries whose replies give the answer to ``x``, one call of ``predict`` each, and a reader of the replies.

        By default there is one query, the rows in random order, so that an answer cannot be made from row order. A kind may add
        queries that verify the answer; its reader may raise InvalidPrediction. Every query has as many rows as ``x``.
        """
        order = rng.permutation(len(x))
        back = np.argsort(order)
        return [x[order]], lambda answers: answers[0][back]

    def references(self, data: Data) -> Mapping[str, float]:
        """Return figures to show beside every score of a task, such as a floor. They are named like metrics, with a suffix."""
        return {}

    def flags(self, metrics: Mapping[str, float]) -> Sequence[str]:
        """Return warnings about an entry with these scores, such as that it copies. They are shown beside its rank."""
        return ()

    def snapshots(self) -> OutputSpec | None:
        """Return the shape and dtype of pictures that a submission may keep from its training, or None for no pictures."""
        return None

    def draw(self, answer: Array, split: Split) -> bytes | None:
        """Return a PNG of ``answer`` beside the truth, or None."""
        return None

    def examples(self, train: Split) -> bytes | None:
        """Return a PNG of training examples, or None."""
        return None

    @property
    def block(self) -> int:
        """Number of neighbouring samples that depend on each other (overlapping windows). Resampling keeps them together."""
        return 1

    def metric(self, name: str) -> Metric:
        for metric in self.metrics:
            if metric.name == name:
                return metric
        known = ", ".join(metric.name for metric in self.metrics)
        raise UsageError(f"{self.name} has no metric {name!r}; it has {known}")

    def settings(self) -> dict[str, Any]:
        """Return the fields of this kind, as a submission gets them (`Submission.task_kind`)."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}


@dataclass(frozen=True)
class Limits:
    """Limits of one fit with its predictions, beside the wall-clock time. None means the default of the machine.

    ``memory`` and ``disk`` are bytes at any moment, over all its processes; ``cpu_seconds`` is the computing time of all of them;
    ``processes`` counts threads too; ``output`` is the number of printed bytes.
    """

    cpu_seconds: float | None = None
    memory: int | None = None
    processes: int | None = None
    output: int | None = None
    disk: int | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None and not value > 0:
                raise UsageError(f"the limit {one.name} should be more than 0; it is {value}")

    def over(self, other: Limits) -> Limits:
        """Return these limits, with those of ``other`` where these are None."""
        mine = {one.name: getattr(self, one.name) for one in fields(self)}
        return replace(other, **{name: value for name, value in mine.items() if value is not None})


@deprecated.renamed_field("known", "accepted_findings")
@dataclass(frozen=True)
class Task:
    """Problem with fixed data and one ranking metric.

    ``load`` returns the three splits, the same ones every time. ``time_limit`` is the default number of seconds for one fit
    with its predictions, ``limits`` are its other limits. A change that makes old scores incomparable bumps ``version``, which
    starts a new board.

    ``accepted_findings`` are findings of `bakeoff check` that the task cannot avoid, by the name in brackets, each with the reason.
    """

    name: str
    kind: Kind
    load: Callable[[], Data]
    metric: str
    version: int = 1
    time_limit: float = 1800.0
    description: str = ""
    limits: Limits = Limits()
    accepted_findings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.kind, Kind):
            raise UsageError(
                f"the kind of a task should be an object such as ImageClassification(classes=10); it is {self.kind!r}"
            )
        self.kind.metric(self.metric)
        if not 0 < self.time_limit <= MAX_SECONDS:
            raise UsageError(
                f"a time limit should lie between 0 and {MAX_SECONDS:g} seconds; it is {self.time_limit:g}"
            )

    @property
    def ranking(self) -> Metric:
        return self.kind.metric(self.metric)


@deprecated.renamed_methods(deprecated.SUBMISSION_METHODS)
class Submission(ABC):
    """Model for tasks of some kinds. One object is one model: it is made, fitted once, then queried.

    ``space`` names the hyperparameters and their Optuna distributions; ``defaults`` gives values to try first. The harness
    sets ``task_kind`` before ``fit``: a namespace with ``name`` and the task's fields (``classes``, ``horizon``, ...).
    """

    kind: ClassVar[str | tuple[str, ...]]
    space: ClassVar[Mapping[str, Distribution]] = {}
    defaults: ClassVar[Mapping[str, Any]] = {}
    files: ClassVar[str | tuple[str, ...]] = ()
    """Files beside the plug-in that it reads (``Path(__file__).parent / name``), a literal. Modules come by themselves."""
    task_kind: SimpleNamespace
    budget: float = 1.0
    """Share of a full fit's epochs that ``fit`` is to take, where it `supports_budget`: a search tries configurations on a tenth.
    The learning rate should run its whole course in that share."""
    snapshots: Sequence[Array] = ()
    """Pictures kept during training, oldest first, each of `Kind.snapshots` shape without its first axis."""

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        deprecated.adopt_methods(cls, deprecated.SUBMISSION_METHODS)

    def __init__(self, params: Mapping[str, Any], *, seed: int, device: str) -> None:
        self.params = dict(params)
        self.seed = seed
        self.device = device

    @abstractmethod
    def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
        """Learn from ``train``; ``valid`` is for early stopping. ``report(loss)``, lower is better, once an epoch or so.

        ``report`` may not return: that is how the search ends a trial that does badly.
        """

    @abstractmethod
    def predict(self, x: Array) -> Array:
        """Answer ``x`` by one of the output specs of the task's kind. May be called several times, with any number of rows."""

    @classmethod
    def supports_budget(cls) -> bool:
        """Tell whether ``fit`` takes ``budget`` into account. Bases of frameworks do, unless a plug-in has its own ``fit``."""
        return False

    def n_parameters(self) -> int | None:
        """Return the number of learned parameters, or None."""
        return None

    def summary(self) -> str:
        """Return a few lines about the fitted model, such as its layers."""
        return ""


def __getattr__(name: str) -> Any:
    return deprecated.module_attribute(__name__, name, OutputSpec)
