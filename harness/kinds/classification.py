"""Base of image and sequence classification: labels or probabilities, four metrics, a confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness import metrics
from harness.contract import Array, Kind, Measure, Metric, OutputSpec, Split
from harness.errors import InvalidPrediction
from harness.kinds import checks, pictures


@dataclass(frozen=True)
class Classification(Kind):
    """Base of the kinds whose targets are class labels: int64 (n,) in 0..classes-1.

    An answer is labels int64 (n,) or probabilities float32 (n, classes).
    """

    classes: int

    metrics: ClassVar[Sequence[Metric]] = (
        Metric("accuracy", True, "share of right labels"),
        Metric("balanced_accuracy", True, "mean recall over classes"),
        Metric("log_loss", False, "nats"),
        Metric("calibration_error", False, "expected calibration error, 15 bins"),
    )

    def output_specs(self, x: Array) -> Sequence[OutputSpec]:
        return (
            OutputSpec("probabilities", (len(x), self.classes), "float32"),
            OutputSpec("labels", (len(x),), "int64"),
        )

    def verify(self, answer: Array, x: Array) -> None:
        if answer.ndim == 1:
            checks.answer_range(answer, 0, self.classes - 1, "predicted labels")
            return
        checks.answer_finite(answer)
        if answer.min() < 0:
            raise InvalidPrediction(f"class probabilities should not be negative; the smallest is {answer.min():.3g}")
        sums = answer.sum(axis=1)
        worst = sums[np.abs(sums - 1).argmax()]
        if abs(worst - 1) > 1e-2:
            raise InvalidPrediction(
                f"each row of class probabilities should sum to 1; one sums to {worst:.4g} (logits need a softmax)"
            )

    def measure(self, answer: Array, split: Split, train: Split) -> Mapping[str, Measure]:
        y, classes = split.labels, self.classes
        return {
            "accuracy": Measure.mean_of(metrics.accuracy(answer, y)),
            "balanced_accuracy": Measure(lambda index: metrics.balanced_accuracy(answer[index], y[index])),
            "log_loss": Measure.mean_of(metrics.log_loss(answer, y, classes)),
            "calibration_error": Measure(lambda index: metrics.calibration_error(answer[index], y[index], classes)),
        }

    def draw(self, answer: Array, split: Split) -> bytes | None:
        return pictures.confusion(metrics.hard_labels(answer), split.labels, self.classes)
