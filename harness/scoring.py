"""The parent's side of a score: hidden labels, public and private parts, and bootstrap replicates that can be compared.

Nothing here has seen a submission's code; it takes verified answers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from harness.contract import Array, Data, Kind, Measure, Split, Task
from harness.errors import DataError, InvalidPrediction, TrialFailed

REPLICATES_OF_MEANS, REPLICATES_OF_OTHERS = 1000, 200
"""Bootstrap draws: many where the metric is a mean over samples, fewer where each draw computes it anew."""


@dataclass(frozen=True)
class Scored:
    """One answer to the hidden test, measured. ``metrics`` has every metric of the kind, the ranking one included."""

    score: float
    public: float
    private: float
    metrics: dict[str, float]
    replicates: Array
    losses: Array


def hidden_parts(n: int, block: int, key: str) -> tuple[Array, Array]:
    """Indices of the public and the private half of n hidden samples: at random, or first and second where neighbours overlap."""
    order = np.arange(n) if block > 1 else generator("hidden", key).permutation(n)
    half = max(n // 2, 1)
    return np.sort(order[:half]), np.sort(order[half:] if n > 1 else order)


def draws(n: int, block: int, count: int, key: str) -> Iterator[Array]:
    """``count`` bootstrap samples of 0..n-1, the same for every entry of a board; whole blocks where neighbours overlap.

    Blocks are the circular ones of Politis and Romano (1992), so that no sample is drawn less often than another.
    """
    rng = generator("bootstrap", key)
    block = min(block, max(n // 2, 1))
    for _ in range(count):
        starts = rng.integers(0, n, size=-(-n // block))
        yield ((starts[:, None] + np.arange(block)) % n).ravel()[:n]


def generator(*words: str) -> np.random.Generator:
    """A generator that depends on these words alone."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256("|".join(words).encode()).digest()[:8], "big"))


class Asked(Protocol):
    """A fitted model in another process."""

    def predict(self, x: Array, kind: Kind) -> tuple[Array, float]: ...


class Scorer:
    """Scores answers to one task's splits."""

    def __init__(self, task: Task, data: Data, data_sha256: str) -> None:
        self.task, self.data = task, data
        self.key = f"{task.name}|{task.version}|{data_sha256}"
        self.public, self.private = hidden_parts(len(data.test), task.kind.block, self.key)

    def ask(self, trial: Asked, split: Split, turn: str) -> tuple[Array, float]:
        """A fitted trial's answer to a split's inputs, all questions asked in its one process; see `questions`."""
        questions, read = self.queries(split, turn)
        return read([trial.predict(question, self.task.kind) for question in questions])

    def queries(
        self, split: Split, turn: str
    ) -> tuple[Sequence[Array], Callable[[Sequence[tuple[Array, float]]], tuple[Array, float]]]:
        """What is really asked about a split, as its kind says, and how to read the replies and their seconds.

        The reader gives the answer to the split's inputs, in its order, and the seconds that one such answer took; it raises
        TrialFailed. The order of rows depends on the hidden labels and on ``turn`` (whose answer this is): unknown to a submission,
        and the same when replayed.
        """
        questions, read = self.task.kind.queries(split.x, generator("questions", self.key, turn))

        def read_all(replies: Sequence[tuple[Array, float]]) -> tuple[Array, float]:
            answers, seconds = zip(*replies, strict=True)
            try:
                return read(answers), sum(seconds) / len(seconds)
            except InvalidPrediction as error:
                raise TrialFailed("invalid", str(error)) from error

        return questions, read_all

    def valid(self, answer: Array) -> float:
        """The ranking metric on the validation split: all that a search sees."""
        return self._value(self._measure(answer, self.data.valid)[self.task.metric].of, len(answer))

    def test(self, answer: Array) -> Scored:
        """Everything about an answer to the hidden test. Raises TrialFailed("invalid") for a score that is not finite."""
        split: Split = self.data.test
        measures = self._measure(answer, split)
        chosen = measures[self.task.metric]
        score = self._value(chosen.of, len(split))
        count = REPLICATES_OF_OTHERS if chosen.values is None else REPLICATES_OF_MEANS
        resamples = draws(len(split), self.task.kind.block, count, self.key)
        with np.errstate(over="ignore"):  # what overflows is refused below
            replicates = np.array([chosen.of(index) for index in resamples], dtype=np.float32)
            if chosen.values is None:
                # A resample repeats samples, which biases what is no mean (a Fréchet distance upwards): centre on the score.
                replicates += np.float32(score - replicates.mean(dtype=np.float64))
            losses = np.array([] if chosen.values is None else chosen.values, dtype=np.float32)
        if not (np.isfinite(replicates).all() and np.isfinite(losses).all()):
            raise self._not_finite(float("inf"))
        everything = np.arange(len(split))
        metrics = {name: float(measure.of(everything)) for name, measure in measures.items()}
        return Scored(
            score,
            float(chosen.of(self.public)),
            float(chosen.of(self.private)),
            {name: value for name, value in metrics.items() if math.isfinite(value)},
            replicates,
            losses,
        )

    def measured(self, answer: Array) -> Measure:
        """The ranking metric of an answer to the hidden test."""
        return self._measure(answer, self.data.test)[self.task.metric]

    def _measure(self, answer: Array, split: Split) -> Mapping[str, Measure]:
        """Every metric. An error in them is the task's, not the entry's, and must not look like a score."""
        try:
            return self.task.kind.measure(answer, split, self.data.train)
        except Exception as error:
            where = type(self.task.kind).__name__
            raise DataError(f"task {self.task.name}: {where}.measure raised {type(error).__name__}: {error}") from error

    def _value(self, of: object, n: int) -> float:
        value = float(of(np.arange(n)))  # type: ignore[operator]
        if not math.isfinite(value):
            raise self._not_finite(value)
        return value

    def _not_finite(self, value: float) -> TrialFailed:
        return TrialFailed(
            "invalid", f"the {self.task.metric} of these predictions is {value}; they should be of ordinary size"
        )
