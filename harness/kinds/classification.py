"""Base of image and sequence classification: labels or probabilities, four metrics, a confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness import metrics
from harness.contract import Array, Kind, Measure, Metric, OutputSpec, Split
from harness.kinds import checks, pictures


@dataclass(frozen=True)
class Classification(Kind):
    """Kind with labels 0..classes-1, int64 (n,). An answer is labels (n,) or probabilities (n, classes)."""

    classes: int

    metrics: ClassVar[Sequence[Metric]] = (
        Metric("accuracy", True, "share of right labels"),
        Metric("balanced_accuracy", True, "mean recall over classes"),
        Metric("log_loss", False, "nats"),
        Metric("calibration_error", False, "expected calibration error, 15 bins"),
    )

    def output_specs(self, x: Array) -> Sequence[OutputSpec]:
        return checks.class_specs(len(x), self.classes)

    def verify(self, answer: Array, x: Array) -> None:
        checks.class_answer(answer, self.classes)

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
