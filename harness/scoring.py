"""Scores of verified answers: hidden labels, public and private samples, and bootstrap replicates that can be compared.

This runs in the parent process and never loads a submission's code.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from harness.contract import Array, Data, Kind, Measure, Query, Split, Task
from harness.errors import DataError, InvalidPrediction, TrialFailed
from leaderboard.result import Status

REPLICATES_OF_MEANS, REPLICATES_OF_OTHERS = 1000, 200
"""Numbers of bootstrap draws: many if the metric is a mean over samples, fewer for other metrics, which each draw computes anew."""


@dataclass(frozen=True)
class ScoredAnswer:
    """Score of one answer to the hidden test split, in the ranking metric; also on its ``public`` and ``private`` halves.

    ``metrics`` has every finite metric of the kind, the ranking one included. ``replicates`` (draws,) float32 are bootstrap scores.
    ``losses`` (samples,) float32 are the metric of each sample; empty if the score is no mean over samples.
    """

    score: float
    public: float
    private: float
    metrics: dict[str, float]
    replicates: Array
    losses: Array


def public_private_split(n: int, block: int, key: str) -> tuple[Array, Array]:
    """Return the indices of the public and of the private half of ``n`` hidden samples, sorted, int64.

    Halves are drawn at random, seeded by ``key``; if neighbours overlap (``block`` above 1), they are the first and the second
    half.
    """
    order = np.arange(n) if block > 1 else seeded_generator("hidden", key).permutation(n)
    half = max(n // 2, 1)
    return np.sort(order[:half]), np.sort(order[half:] if n > 1 else order)


def bootstrap_samples(n: int, block: int, count: int, key: str) -> Iterator[Array]:
    """Yield ``count`` bootstrap samples of 0..n-1, each (n,) int64. Entries of a board get the same samples, seeded by ``key``.

    If neighbours overlap, blocks of ``block`` neighbours are drawn. They are the circular ones of Politis and Romano (1992), so
    that no sample is drawn less often than another.
    """
    rng = seeded_generator("bootstrap", key)
    block = min(block, max(n // 2, 1))
    for _ in range(count):
        starts = rng.integers(0, n, size=-(-n // block))
        yield ((starts[:, None] + np.arange(block)) % n).ravel()[:n]


def seeded_generator(*words: str) -> np.random.Generator:
    """Return a random generator whose seed is a hash of ``words``: equal words give equal numbers."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256("|".join(words).encode()).digest()[:8], "big"))


class FittedTrial(Protocol):
    """Interface of a fitted model in another process, as a scorer queries it."""

    def predict(self, x: Array, kind: Kind) -> tuple[Array, float]: ...


Reply = tuple[Array | list[Array], float]
"""Answer to a query, a list for a query of steps, and its seconds."""
ReplyReader = Callable[[Sequence[Reply]], tuple[Array, float]]


def reply(trial: FittedTrial, query: Query, kind: Kind) -> Reply:
    """Return a fitted trial's verified reply to a query. Raises TrialFailed."""
    if isinstance(query, np.ndarray):
        return trial.predict(query, kind)
    answers, seconds = zip(*(trial.predict(step, kind) for step in query), strict=True)
    return list(answers), sum(seconds)


class ValidationScorer:
    """Scorer of answers to the validation split. It holds train and valid alone: all that a search may see.

    ``secret`` is text that no submission can know (`Store.secret`), from which the order of queries is drawn; None for a new one.
    """

    def __init__(self, task: Task, train: Split, valid: Split, data_sha256: str, secret: str | None = None) -> None:
        self.task, self.train_split, self.valid_split = task, train, valid
        self.key = f"{task.name}|{task.version}|{data_sha256}"
        self.secret = secret or secrets.token_hex(32)

    def ask(self, trial: FittedTrial, split: Split) -> tuple[Array, float]:
        """Return a fitted trial's answer to a split's inputs and its seconds. One process answers all queries; see `queries`."""
        queries, read = self.queries(split)
        return read([reply(trial, query, self.task.kind) for query in queries])

    def queries(self, split: Split) -> tuple[Sequence[Query], ReplyReader]:
        """Return the queries of the kind for a split, and a reader of the replies and their seconds.

        The reader returns the answer to the split's inputs, in their order, and the mean seconds of a reply to all rows; it raises
        TrialFailed. The order of rows, and what is asked again, depend on the secret and on the data alone: another submission, or
        the same one with a comment changed, is asked the same.
        """
        queries, read = self.task.kind.queries(split.x, seeded_generator("questions", self.secret, self.key))

        def read_all(replies: Sequence[Reply]) -> tuple[Array, float]:
            whole = [
                seconds for query, (_, seconds) in zip(queries, replies, strict=True) if isinstance(query, np.ndarray)
            ]
            try:
                return read([answer for answer, _ in replies]), sum(whole) / max(len(whole), 1)
            except InvalidPrediction as error:
                raise TrialFailed(Status.INVALID, str(error)) from error

        return queries, read_all

    def valid(self, answer: Array) -> float:
        """Return the ranking metric of an answer to the validation split. A search sees no other score.

        Raises TrialFailed if the metric is not finite.
        """
        return self._value(self._measure(answer, self.valid_split)[self.task.metric].of, len(answer))

    def _measure(self, answer: Array, split: Split) -> Mapping[str, Measure]:
        """Return every metric of an answer to ``split``, by name.

        Raises DataError if the kind fails, because that is the task's fault and not the entry's.
        """
        try:
            return self.task.kind.measure(answer, split, self.train_split)
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
            Status.INVALID, f"the {self.task.metric} of these predictions is {value}; they should be of ordinary size"
        )


class Scorer(ValidationScorer):
    """Scorer of answers to the validation and test splits of a task. It holds the hidden targets."""

    def __init__(self, task: Task, data: Data, data_sha256: str, secret: str | None = None) -> None:
        super().__init__(task, data.train, data.valid, data_sha256, secret)
        self.data = data
        words = f"{self.secret}|{self.key}"
        self.public, self.private = public_private_split(len(data.test), task.kind.block, words)

    def test(self, answer: Array) -> ScoredAnswer:
        """Return the score of an answer to the hidden test split.

        Raises TrialFailed with status invalid if the score, a bootstrap score or a sample's loss is not finite.
        """
        split: Split = self.data.test
        measures = self._measure(answer, split)
        chosen = measures[self.task.metric]
        score = self._value(chosen.of, len(split))
        count = REPLICATES_OF_OTHERS if chosen.values is None else REPLICATES_OF_MEANS
        resamples = bootstrap_samples(len(split), self.task.kind.block, count, self.key)
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
        return ScoredAnswer(
            score,
            float(chosen.of(self.public)),
            float(chosen.of(self.private)),
            {name: value for name, value in metrics.items() if math.isfinite(value)},
            replicates,
            losses,
        )

    def measured(self, answer: Array) -> Measure:
        """Return the ranking metric of an answer to the hidden test split, to be computed on any subset of the samples."""
        return self._measure(answer, self.data.test)[self.task.metric]
