"""Data of a task that a trial receives: train and valid, never the test split."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.contract import Array, Kind, OutputSpec, Split
from harness.execution.shared.memory import SharedArray

_keys = itertools.count()


@dataclass(frozen=True)
class FitInputs:
    """Arrays of train and valid, fields of the kind, and spec of the snapshots, for a trial. No test split, no code."""

    arrays: Mapping[str, Array]
    kind: Mapping[str, Any]
    snapshots: OutputSpec | None

    @classmethod
    def of(cls, train: Split, valid: Split, kind: Kind) -> FitInputs:
        """Take train and valid of a task."""
        arrays = {
            f"{part}.{axis}": array
            for part, split in (("train", train), ("valid", valid))
            for axis, array in (("x", split.x), ("y", split.labels))
        }
        if train.unlabelled is not None:
            arrays["train.unlabelled"] = train.unlabelled
        return cls(arrays, {"name": kind.name, **kind.settings()}, kind.snapshots())


class SharedInputs:
    """`FitInputs` with the arrays in shared memory, for all trials of a task. Close it when done."""

    def __init__(self, inputs: FitInputs) -> None:
        self.key = next(_keys)
        self.inputs, self.kind, self.snapshots = inputs, inputs.kind, inputs.snapshots
        self.arrays = {name: SharedArray.of(array) for name, array in inputs.arrays.items()}

    @classmethod
    def of(cls, train: Split, valid: Split, kind: Kind) -> SharedInputs:
        """Copy train and valid of a task into shared memory."""
        return cls(FitInputs.of(train, valid, kind))

    def close(self) -> None:
        for shared in self.arrays.values():
            shared.close()
