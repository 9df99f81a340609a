"""Kind of tasks that assign a class to each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.contract import Data, Split
from harness.kinds import checks, pictures
from harness.kinds.classification import Classification


@dataclass(frozen=True)
class ImageClassification(Classification):
    """Kind of image classification. x is uint8 (n, height, width, channels); y is int64 (n,) in 0..classes-1.

    Answers: labels int64 (n,), or probabilities float32 (n, classes). Metrics: accuracy, balanced_accuracy, log_loss,
    calibration_error.
    """

    name: ClassVar[str] = "image-classification"

    def check(self, data: Data) -> None:
        shape = data.train.x.shape[1:]
        for part, split in checks.named_splits(data):
            checks.expect(
                split.x, f"{part}.x", shape=(None, *shape) if len(shape) == 3 else (None, None, None, None), dtypes="u"
            )
            checks.expect(split.labels, f"{part}.y", shape=(None,), dtypes="i")
            checks.expect_range(split.labels, f"{part}.y", 0, self.classes - 1)

    def examples(self, train: Split) -> bytes:
        return pictures.by_class(train.x, train.labels)
