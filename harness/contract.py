"""Names for plug-in authors: tasks, data, kinds, submissions, search spaces and errors.

Everything here is data or an abstract class, and an import of this module loads no machine-learning framework. The other packages
(kinds, execution, search, evaluation) are written against these names.
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
    "Query",
    "Reader",
    "Split",
    "Submission",
    "Task",
    "UsageError",
]

Array = NDArray[Any]
Query = Array | Sequence[Array]
"""Rows for one call of ``predict``; or steps, each of them rows, that one process answers one after another."""
Reader = Callable[[Sequence[Any]], Array]
"""Function from the replies to the queries, a list for a query of steps, to the answer."""


MAX_SECONDS = 1e8
"""Longest time limit that is allowed, in seconds: about three years."""


@deprecated.renamed_field("about", "metadata")
@dataclass(frozen=True)
class Split:
    """One split of a task's data: inputs ``x`` and targets ``y``, whose first axis is the row.

    The kind says what ``x`` and ``y`` hold: see the docstrings of `harness.kinds`. ``y`` is None if the targets are hidden.

    ``unlabelled`` holds further inputs, shaped like those in ``x`` and without targets, in any number. A semi-supervised task gives
    them with its train split. ``metadata`` holds facts about the rows, such as file names, sizes or times: for each name an array
    with one value per row. The leak checks of `bakeoff check` read these facts; no submission ever gets them.
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
        """Targets ``y``. Raises DataError if they are hidden (None)."""
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
        """Return the SHA-256, in hex, of the dtype, shape and bytes of all inputs and targets, without ``metadata``."""
        digest = hashlib.sha256()
        for split in (self.train, self.valid, self.test):
            for array in (split.x, split.labels, *(() if split.unlabelled is None else (split.unlabelled,))):
                digest.update(f"{array.dtype.str}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class OutputSpec:
    """Output spec: name, shape and dtype of an array that ``predict`` may return.

    Every axis is fixed: the process that runs a submission never chooses a size.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def accepts(self, answer: Array) -> bool:
        """Tell whether an answer has the shape of this spec and a dtype that fits it.

        Any float fits a float, and any integer fits a signed integer. Other dtypes must be equal.
        """
        wanted = np.dtype(self.dtype)
        kinds = {"i": "iu", "f": "f"}.get(wanted.kind)
        fits = answer.dtype == wanted if kinds is None else answer.dtype.kind in kinds
        return fits and answer.shape == tuple(self.shape)

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {self.shape}"


@dataclass(frozen=True)
class Metric:
    """Metric of a kind: its name, its direction, and a short unit or explanation for tables."""

    name: str
    higher_is_better: bool
    help: str = ""

    @property
    def loss_sign(self) -> float:
        """Factor that turns a value of this metric into a loss (lower is better): -1.0 if higher values are better, else 1.0."""
        return -1.0 if self.higher_is_better else 1.0


@dataclass(frozen=True)
class Measure:
    """Metric of one set of predictions, which can be computed over any subset or resample of the samples.

    ``of(index)`` returns the metric over the samples at ``index`` (int64, repeats allowed). If the metric is a mean over samples,
    ``values`` (n,) float64 holds the value of each sample.
    """

    of: Callable[[Array], float]
    values: Array | None = None

    @classmethod
    def mean_of(cls, values: Array) -> Measure:
        """Return the measure that is the mean of ``values`` (n,), one value per sample."""
        values = np.asarray(values, dtype=np.float64)
        return cls(of=lambda index: float(values[index].mean()), values=values)


@deprecated.renamed_methods(deprecated.KIND_METHODS)
@dataclass(frozen=True)
class Kind(ABC):
    """Base class of the kinds of task. A kind defines the arrays of a task, its valid answers, its metrics and its pictures.

    A kind is a frozen dataclass. Its fields (plain numbers and strings) are the constants of one task: classes, horizon, and so on.
    """

    name: ClassVar[str]
    metrics: ClassVar[Sequence[Metric]]

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        deprecated.adopt_methods(cls, deprecated.KIND_METHODS)

    @abstractmethod
    def check(self, data: Data) -> None:
        """Raise DataError if the shapes, dtypes or values of the arrays in ``data`` do not fit this kind."""

    @abstractmethod
    def output_specs(self, x: Array) -> Sequence[OutputSpec]:
        """Return the specs of the arrays that ``predict(x)`` may return, the preferred one first."""

    @abstractmethod
    def verify(self, answer: Array, x: Array) -> None:
        """Raise InvalidPrediction if ``answer``, the predictions for ``x``, has invalid values.

        Its shape and dtype match an output spec when this is called.
        """

    @abstractmethod
    def measure(self, answer: Array, split: Split, train: Split) -> Mapping[str, Measure]:
        """Return every metric of the kind, by name, of ``answer``: the predictions for ``split.x``, whose truth is ``split.y``.

        ``train`` is the train split of the task, for metrics that compare with it.
        """

    def queries(self, x: Array, rng: np.random.Generator) -> tuple[Sequence[Query], Reader]:
        """Return the queries whose replies give the answer to ``x``, and a reader of the replies.

        By default there is one query, the rows in random order, so that an answer cannot be made from row order. A kind may add
        queries that verify the answer; its reader may raise InvalidPrediction. In a final fit each query goes to a process of its
        own, in this order, and a query of steps shows no step before the former is answered. ``rng`` is the same for every
        submission, and no submission knows it.
        """
        order = rng.permutation(len(x))
        back = np.argsort(order)
        return [x[order]], lambda answers: answers[0][back]

    def references(self, data: Data) -> Mapping[str, float]:
        """Return reference scores to show with a task's board, such as a floor, by name: the name of a metric with a suffix."""
        return {}

    def flags(self, metrics: Mapping[str, float]) -> Sequence[str]:
        """Return warnings to show with an entry, such as that it copies, from the ``metrics`` of its test predictions, by name."""
        return ()

    def snapshots(self) -> OutputSpec | None:
        """Return the spec of all pictures that a submission may keep from its training, in one array; None for no pictures."""
        return None

    def draw(self, answer: Array, split: Split) -> bytes | None:
        """Return a picture (PNG) of ``answer``, the predictions for ``split.x``, beside the truth; None for no picture."""
        return None

    def examples(self, train: Split) -> bytes | None:
        """Return a picture (PNG) of some examples of the train split; None for no picture."""
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
        """Return the values of this kind's fields by name. A submission gets them in `Submission.task_kind`."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}


@dataclass(frozen=True)
class Limits:
    """Resource limits of one fit with its predictions, besides the time limit. None means the harness's default.

    ``cpu_seconds`` is processor time, ``memory`` and ``disk`` are bytes in use at any moment: each is the sum over all processes of
    the fit. ``processes`` counts these processes with their threads; ``output`` is the number of bytes that they may print.
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
        """Return the limits of this object, with those of ``other`` for every field that is None here."""
        mine = {one.name: getattr(self, one.name) for one in fields(self)}
        return replace(other, **{name: value for name, value in mine.items() if value is not None})


@deprecated.renamed_field("known", "accepted_findings")
@dataclass(frozen=True)
class Task:
    """Problem with fixed data and one ranking metric, on which submissions are compared.

    ``load`` returns the three splits, the same ones every time. ``metric`` is the name of the kind's metric that ranks entries.
    ``time_limit`` is the default number of seconds for one fit with its predictions; ``limits`` are its other limits. A change that
    makes old scores incomparable needs a new ``version``, which starts a new board.

    ``accepted_findings`` are leaks that the task cannot avoid: for the name of a check, as `bakeoff check` prints it in brackets,
    the reason why. Such a leak is reported and does not fail the check.
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
    """Base class of submissions: models for tasks of one kind or several. An object is one model: made, fitted once, then queried.

    ``kind`` is the name of a kind, or a tuple of names. ``space`` maps hyperparameters to their Optuna distributions; ``defaults``
    gives values to try first. Before ``fit`` the harness sets ``task_kind``: a namespace with ``name`` and the fields of the task's
    kind (``classes``, ``horizon``, ...).
    """

    kind: ClassVar[str | tuple[str, ...]]
    space: ClassVar[Mapping[str, Distribution]] = {}
    defaults: ClassVar[Mapping[str, Any]] = {}
    files: ClassVar[str | tuple[str, ...]] = ()
    """Names of files beside the plug-in that it reads (``Path(__file__).parent / name``), as a literal. Modules that it imports
    from its folder need no mention."""
    task_kind: SimpleNamespace
    budget: float = 1.0
    """Share (0..1) of a full fit's epochs that ``fit`` should run, if `supports_budget` is true. A search tries configurations on a
    tenth. The learning rate should run its whole schedule in that share."""
    snapshots: Sequence[Array] = ()
    """Pictures kept during training, oldest first: arrays with the dtype and shape of `Kind.snapshots`, without its first axis."""

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        deprecated.adopt_methods(cls, deprecated.SUBMISSION_METHODS)

    def __init__(self, params: Mapping[str, Any], *, seed: int, device: str) -> None:
        self.params = dict(params)
        self.seed = seed
        self.device = device

    @abstractmethod
    def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
        """Learn from ``train``; ``valid`` is for early stopping. Call ``report(loss)`` about once an epoch; lower is better.

        A call of ``report`` may never return: in this way the search prunes a trial.
        """

    @abstractmethod
    def predict(self, x: Array) -> Array:
        """Return predictions for ``x`` that match one of the output specs of the task's kind.

        Called after ``fit``, once or several times, with any number of rows.
        """

    @classmethod
    def supports_budget(cls) -> bool:
        """Tell whether ``fit`` obeys ``budget``: False here, True for the ``fit`` of `TorchSubmission` and `KerasSubmission`."""
        return False

    def n_parameters(self) -> int | None:
        """Return the number of learned parameters, or None if it is unknown."""
        return None

    def summary(self) -> str:
        """Return a few lines of text about the fitted model, such as its layers; "" for none."""
        return ""


def __getattr__(name: str) -> Any:
    return deprecated.module_attribute(__name__, name, OutputSpec)
