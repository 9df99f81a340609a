"""Data of a task, made ready once for all its entries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness.contract import Data, Task
from harness.errors import BakeoffError, DataError
from harness.execution.parent.fit_data import SharedInputs
from harness.plugins.task_files import TASK_READS
from harness.scoring import Scorer, ValidationScorer
from leaderboard import Store
from leaderboard.result import content_key
from leaderboard.store.secret import fingerprint


class TaskData:
    """Data of a task, loaded, checked, hashed and shared once for all its entries. Hidden labels stay here.

    ``secret`` is that of the store (`Store.secret`).
    """

    def __init__(self, task: Task, secret: str) -> None:
        self.task, self.secret_id = task, fingerprint(secret)
        self.data = load_data(task)
        self.sha256 = self.data.sha256()
        self.scorer = Scorer(task, self.data, self.sha256, secret)
        self.validation_scorer = ValidationScorer(task, self.data.train, self.data.valid, self.sha256, secret)
        self.references = {name: float(value) for name, value in task.kind.references(self.data).items()}
        self.fit_data = SharedInputs.of(self.data.train, self.data.valid, task.kind)

    def study_key(self, source_sha256: str, object_name: str | None, time_limit: float) -> str:
        """Return a key for a submission's fits on these data with this time limit (seconds).

        ``object_name`` is the name of the submission's class in its file, or None. `Entry` adds device and search settings to the
        key.
        """
        task, kind = self.task, self.task.kind
        parts = (task.name, task.version, kind.name, kind.settings(), task.metric, self.sha256)
        return content_key(*parts, source_sha256, object_name, time_limit)

    def save_preview(self, store: Store, note: Callable[[str], None]) -> None:
        """Save a picture and a description of the data in the store, for the HTML pages, unless they are there.

        If the kind fails to draw, ``note`` is called with the error and there is no picture.
        """
        name = f"data-{self.sha256[:12]}"
        if (store.artefacts(name) / "about.txt").exists():
            return
        train, sizes = self.data.train, [len(self.data.train), len(self.data.valid), len(self.data.test)]
        picture = None
        try:
            picture = self.task.kind.examples(train)
        except Exception as error:
            note(f"no picture of the data of {self.task.name}: {type(error).__name__}: {error}")
        if picture:
            store.keep(name, "picture.png", picture)
        given, wanted = (
            f"{array.dtype} {array.shape[1:]}" if array.ndim > 1 else f"{array.dtype}"
            for array in (train.x, train.labels)
        )
        about = "{:,} rows to train on, {:,} to validate with, {:,} hidden.".format(*sizes)
        store.keep(name, "about.txt", f"{about} A row's input is {given}, its target {wanted}.".encode())

    def close(self) -> None:
        self.fit_data.close()


def load_data(task: Task) -> Data:
    """Return a task's data, checked against its kind. Raises BakeoffError or a subclass, with the task's name in the message."""
    try:
        with TASK_READS.watch():
            data = task.load()
        if not isinstance(data, Data):
            raise DataError(f"load() should return harness.Data; it returned {type(data).__name__}")
        arrays = [array for split in (data.train, data.valid, data.test) for array in (split.x, split.labels)]
        if not all(isinstance(array, np.ndarray) for array in arrays):
            raise DataError("a split should hold numpy arrays")
        task.kind.check(data)
    except BakeoffError as error:
        raise type(error)(f"task {task.name}: {error}") from error
    except Exception as error:
        raise BakeoffError(f"task {task.name} could not be loaded: {type(error).__name__}: {error}") from error
    return data
