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
    """Inputs of a trial's fit: arrays of train and valid by name ("train.x", ...), and name and fields of the task's kind.

    ``snapshots`` is the output spec of training pictures, or None. The inputs contain neither the test split nor code.
    """

    arrays: Mapping[str, Array]
    kind: Mapping[str, Any]
    snapshots: OutputSpec | None

    @classmethod
    def of(cls, train: Split, valid: Split, kind: Kind) -> FitInputs:
        """Return the inputs of fits on a task with these splits and this kind."""
        arrays = {
            f"{part}.{axis}": array
            for part, split in (("train", train), ("valid", valid))
            for axis, array in (("x", split.x), ("y", split.labels))
        }
        if train.unlabelled is not None:
            arrays["train.unlabelled"] = train.unlabelled
        return cls(arrays, {"name": kind.name, **kind.settings()}, kind.snapshots())


class SharedInputs:
    """`FitInputs` with the arrays in shared memory, for trials of a task. ``key`` is unique in this process. Close it when done."""

    def __init__(self, inputs: FitInputs) -> None:
        self.key = next(_keys)
        self.inputs, self.kind, self.snapshots = inputs, inputs.kind, inputs.snapshots
        self.arrays = {name: SharedArray.of(array) for name, array in inputs.arrays.items()}

    @classmethod
    def of(cls, train: Split, valid: Split, kind: Kind) -> SharedInputs:
        """Return the inputs of fits on a task, with train and valid copied into shared memory."""
        return cls(FitInputs.of(train, valid, kind))

    def close(self) -> None:
        for shared in self.arrays.values():
            shared.close()
