"""What a trial is given of its task: train and valid, and never a hidden test."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.contract import Array, Data, OutputSpec, Kind
from harness.execution.shared.memory import SharedArray

_keys = itertools.count()


@dataclass(frozen=True)
class FitInputs:
    """What a trial may know of a task, before it is in memory that a child can be handed: no test, and nothing but data."""

    arrays: Mapping[str, Array]
    kind: Mapping[str, Any]
    snapshots: OutputSpec | None

    @classmethod
    def of(cls, data: Data, kind: Kind) -> FitInputs:
        arrays = {
            f"{part}.{axis}": array
            for part, split in (("train", data.train), ("valid", data.valid))
            for axis, array in (("x", split.x), ("y", split.labels))
        }
        if data.train.unlabelled is not None:
            arrays["train.unlabelled"] = data.train.unlabelled
        return cls(arrays, {"name": kind.name, **kind.settings()}, kind.snapshots())


class SharedInputs:
    """What every trial of a task is given: train and valid in shared memory, and the kind's fields. Close it when done."""

    def __init__(self, given: FitInputs) -> None:
        self.key = next(_keys)
        self.inputs, self.kind, self.snapshots = given, given.kind, given.snapshots
        self.arrays = {name: SharedArray.of(array) for name, array in given.arrays.items()}

    @classmethod
    def of(cls, data: Data, kind: Kind) -> SharedInputs:
        return cls(FitInputs.of(data, kind))

    def close(self) -> None:
        for shared in self.arrays.values():
            shared.close()
