"""Kinds of tasks on sequences. Targets are a class, a future, the next token at every position, or another sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from harness import metrics
from harness.contract import Array, Data, Kind, Measure, Metric, OutputSpec, Query, Reader, Split
from harness.errors import DataError, InvalidPrediction
from harness.kinds import checks, pictures
from harness.kinds.classification import Classification

N_CHECKED = 32
"""Windows, or positions in text, that are asked again: whoever looks ahead for a fifth of them is found in 99.9 of 100 runs."""
ROUNDING = 1e-5
"""Relative move of a forecast that counts as rounding."""
HIDDEN_CHUNKS, LAST_POSITIONS = 0.25, 0.25
"""Share of the chunks that the second process never sees, and of the cuts at the end of a chunk."""
MAX_STEPS = 8
"""Largest number of times that the second process is asked about all chunks."""


@dataclass(frozen=True)
class SequenceClassification(Classification):
    """Kind of sequence classification. x is float32 (n, steps, variables); y is int64 (n,) in 0..classes-1.

    Answers: labels int64 (n,), or probabilities float32 (n, classes). Metrics: accuracy, balanced_accuracy, log_loss,
    calibration_error.
    """

    name: ClassVar[str] = "sequence-classification"

    def check(self, data: Data) -> None:
        shape = data.train.x.shape[1:]
        for part, split in checks.named_splits(data):
            checks.expect(
                split.x, f"{part}.x", shape=(None, *shape) if len(shape) == 2 else (None, None, None), dtypes="f"
            )
            checks.expect(split.labels, f"{part}.y", shape=(None,), dtypes="i")
            checks.expect_range(split.labels, f"{part}.y", 0, self.classes - 1)
            checks.expect_finite(split.x, f"{part}.x")

    def examples(self, train: Split) -> bytes:
        return pictures.series_by_class(train.x, train.labels)


@dataclass(frozen=True)
class Forecasting(Kind):
    """Kind of forecasting: windows of a series to their future.

    x is float32 (n, look-back, variables); y and the answer are float32 (n, horizon, variables). ``season`` is the period, in
    steps, of the naive forecast that MASE divides by. Test windows overlap, so resampling keeps ``horizon`` neighbours together.
    Metrics: mse, mae, mase.

    A window's future stands in the look-back of later ones. So the harness asks a second process for some secret windows again:
    one at a time, the oldest first, so that none of them has been seen with its future. The forecasts must be the same. Rows of a
    split should be in order of time.
    """

    horizon: int
    season: int = 1

    name: ClassVar[str] = "forecasting"
    tolerance: ClassVar[float] = 1e-3
    """Largest move of a forecast that is asked again, in standard deviations of the series."""
    metrics: ClassVar[Sequence[Metric]] = (
        Metric("mse", False, "mean squared error"),
        Metric("mae", False, "mean absolute error"),
        Metric("mase", False, "absolute error over the seasonal naive one's"),
    )

    def check(self, data: Data) -> None:
        shape = data.train.x.shape
        lookback, variables = (shape[1], shape[2]) if len(shape) == 3 else (None, None)
        for part, split in checks.named_splits(data):
            checks.expect(split.x, f"{part}.x", shape=(None, lookback, variables), dtypes="f")
            checks.expect(split.labels, f"{part}.y", shape=(None, self.horizon, variables), dtypes="f")
            checks.expect_finite(split.x, f"{part}.x")
            checks.expect_finite(split.labels, f"{part}.y")
        if lookback is not None and lookback <= self.season:
            raise DataError(f"the look-back ({lookback} steps) should be longer than the season ({self.season})")

    def output_specs(self, x: Array) -> Sequence[OutputSpec]:
        return (OutputSpec("forecast", (len(x), self.horizon, x.shape[2]), "float32"),)

    def verify(self, answer: Array, x: Array) -> None:
        checks.answer_finite(answer)

    def measure(self, answer: Array, split: Split, train: Split) -> Mapping[str, Measure]:
        y = split.labels
        return {
            "mse": Measure.mean_of(metrics.squared_error(answer, y)),
            "mae": Measure.mean_of(metrics.absolute_error(answer, y)),
            "mase": Measure.mean_of(metrics.scaled_error(answer, y, train.x, self.season)),
        }

    def queries(self, x: Array, rng: np.random.Generator) -> tuple[Sequence[Query], Reader]:
        order = rng.permutation(len(x))
        checked = np.sort(rng.choice(len(x), min(len(x), N_CHECKED), replace=False))
        # Rounding grows with the level of a series, a forecast's worth with its changes.
        allowed = self.tolerance * np.median(x.std(axis=1, dtype=np.float64), axis=0)

        def read(answers: Sequence[Any]) -> Array:
            answer: Array = answers[0][np.argsort(order)]
            true = answer[checked].astype(np.float64)
            moved = np.abs(np.concatenate(answers[1]) - true)
            if (moved > allowed + ROUNDING * np.abs(true)).any():
                raise InvalidPrediction(
                    f"a forecast depends on other windows, which hold its future: asking for a window alone moved it by "
                    f"{moved.max():.3g} (a deterministic predict that answers each window by itself moves by nothing)"
                )
            return answer

        return [x[order], [x[index : index + 1] for index in checked]], read

    @property
    def block(self) -> int:
        return self.horizon

    def draw(self, answer: Array, split: Split) -> bytes | None:
        return pictures.forecasts(answer, split.x, split.labels)

    def examples(self, train: Split) -> bytes:
        return pictures.forecasts(None, train.x, train.labels)


@dataclass(frozen=True)
class NextToken(Kind):
    """Kind of next-token prediction. x is int64 (n, t) in 0..vocabulary-1; y[i, j] is the token that follows x[i, j].

    An answer is log-probabilities float32 (n, t, vocabulary), natural logarithm; each sums to one over the last axis after exp.
    Chunks (rows) do not overlap, and each is answered by itself. Metrics: nats (per token), bits (per token), token_accuracy.

    Causality is verified, not trusted: the harness asks a second process about copies whose tokens after a secret point are noise.
    What is predicted up to that point must not move. If there are few chunks, it asks several times, each time up to a later point.
    """

    vocabulary: int
    alphabet: str = ""
    """Characters of the tokens 0, 1, ... in order, for pictures alone; empty for no pictures."""

    name: ClassVar[str] = "next-token"
    metrics: ClassVar[Sequence[Metric]] = (
        Metric("nats", False, "nats per token"),
        Metric("bits", False, "bits per token"),
        Metric("token_accuracy", True, "share of right most-likely tokens"),
    )
    tolerance: ClassVar[float] = 1e-3

    def check(self, data: Data) -> None:
        length = data.train.x.shape[1] if data.train.x.ndim == 2 else None
        for part, split in checks.named_splits(data):
            for what, array in (("x", split.x), ("y", split.labels)):
                checks.expect(array, f"{part}.{what}", shape=(None, length), dtypes="i")
                checks.expect_range(array, f"{part}.{what}", 0, self.vocabulary - 1)
            if split.x.shape[1] < 2:
                raise DataError(f"chunks should be of two tokens at least; {part}.x is {split.x.shape}")
            if not (split.x[:, 1:] == split.labels[:, :-1]).all():
                raise DataError(f"{part}.y should be {part}.x moved by one position")

    def output_specs(self, x: Array) -> Sequence[OutputSpec]:
        return (OutputSpec("log-probabilities", (*x.shape, self.vocabulary), "float32"),)

    def verify(self, answer: Array, x: Array) -> None:
        if np.isnan(answer).any() or (answer == np.inf).any():
            raise InvalidPrediction("log-probabilities hold NaN or +infinity, or were never written")
        with np.errstate(over="ignore"):  # what overflows is refused in the next lines
            total = np.exp(answer.astype(np.float64)).sum(axis=2)
        worst = total.flat[np.abs(total - 1).argmax()]
        if abs(worst - 1) > 1e-2:
            raise InvalidPrediction(
                f"exp(log-probabilities) should sum to 1 at each position; one sums to {worst:.4g} (logits need a "
                "log_softmax)"
            )

    def queries(self, x: Array, rng: np.random.Generator) -> tuple[Sequence[Query], Reader]:
        n, length = x.shape
        order, again = rng.permutation(n), rng.permutation(n)
        # The first token of a chunk is the target at the end of the one before. So some chunks are not shown at all.
        shown = rng.random((n, 1)) >= HIDDEN_CHUNKS
        shown[rng.integers(n)] = True
        n_steps = min(-(-N_CHECKED // int(shown.sum())), MAX_STEPS)
        last = np.where(rng.random((n_steps, n, 1)) < LAST_POSITIONS, length - 1, 0) if n > 1 else 0
        cuts = np.sort(np.maximum(rng.integers(0, length - 1, size=(n_steps, n, 1)), last), axis=0)
        kept = (np.arange(length) <= cuts) & shown
        # Nothing of what is hidden is in the noise: it repeats tokens that stand before the cut, or one of all.
        before = np.take_along_axis(x, (rng.random((n, length)) * (cuts[0] + 1)).astype(np.int64), axis=1)
        noise = np.where(shown, before, rng.integers(0, self.vocabulary, size=(n, length)))

        def read(answers: Sequence[Any]) -> Array:
            floor = np.log(metrics.SMALLEST_PROBABILITY)
            answer: Array = answers[0][np.argsort(order)]
            for step, reply in enumerate(answers[1]):
                moved = np.abs(np.maximum(reply[np.argsort(again)], floor) - np.maximum(answer, floor)).max(axis=2)
                worst = float(np.where(kept[step], moved, 0.0).max())
                if worst > self.tolerance:
                    raise InvalidPrediction(
                        f"predictions depend on tokens that come later: changing only later tokens moved a "
                        f"log-probability by {worst:.3g} (a causal, deterministic predict moves none)"
                    )
            return answer

        return [x[order], [np.where(part, x, noise)[again] for part in kept]], read

    def measure(self, answer: Array, split: Split, train: Split) -> Mapping[str, Measure]:
        nats = metrics.token_nats(answer, split.labels)
        return {
            "nats": Measure.mean_of(nats),
            "bits": Measure.mean_of(nats / np.log(2)),
            "token_accuracy": Measure.mean_of((answer.argmax(axis=2) == split.labels).mean(axis=1)),
        }

    def draw(self, answer: Array, split: Split) -> bytes | None:
        return pictures.surprise(answer, split.labels, self.alphabet) if self.alphabet else None

    def examples(self, train: Split) -> bytes | None:
        return pictures.surprise(None, train.labels, self.alphabet) if self.alphabet else None


@dataclass(frozen=True)
class Transduction(Kind):
    """Kind of transduction: a token sequence or an image to a token sequence.

    y and the answer are int64 (n, length) in 0..vocabulary-1. x is int64 (n, any length) in 0..source_vocabulary-1; if
    source_vocabulary is 0, it is images uint8 (n, height, width, channels). Targets end with ``pad`` up to ``length``. Metrics:
    exact_match, token_accuracy.
    """

    vocabulary: int
    length: int
    source_vocabulary: int = 0
    pad: int = 0
    alphabet: str = ""
    """Characters of the target tokens 0, 1, ... in order, for pictures alone; empty for no pictures."""

    name: ClassVar[str] = "transduction"
    metrics: ClassVar[Sequence[Metric]] = (
        Metric("exact_match", True, "share of sequences with every token right"),
        Metric("token_accuracy", True, "share of right tokens"),
    )

    def check(self, data: Data) -> None:
        for part, split in checks.named_splits(data):
            if self.source_vocabulary:
                checks.expect(split.x, f"{part}.x", shape=(None, data.train.x.shape[-1]), dtypes="i")
                checks.expect_range(split.x, f"{part}.x", 0, self.source_vocabulary - 1)
            else:
                checks.expect(split.x, f"{part}.x", shape=(None, None, None, None), dtypes="u")
            checks.expect(split.labels, f"{part}.y", shape=(None, self.length), dtypes="i")
            checks.expect_range(split.labels, f"{part}.y", 0, self.vocabulary - 1)

    def output_specs(self, x: Array) -> Sequence[OutputSpec]:
        return (OutputSpec("tokens", (len(x), self.length), "int64"),)

    def verify(self, answer: Array, x: Array) -> None:
        checks.answer_range(answer, 0, self.vocabulary - 1, "predicted tokens")

    def measure(self, answer: Array, split: Split, train: Split) -> Mapping[str, Measure]:
        y = split.labels
        return {
            "exact_match": Measure.mean_of(metrics.exact_match(answer, y)),
            "token_accuracy": Measure.mean_of(metrics.token_accuracy(answer, y, self.pad)),
        }

    def draw(self, answer: Array, split: Split) -> bytes | None:
        return pictures.transcripts(answer, split.labels, self.alphabet, self.pad) if self.alphabet else None

    def examples(self, train: Split) -> bytes | None:
        return pictures.captioned(train.x, train.labels, self.alphabet, self.pad) if self.alphabet else None
