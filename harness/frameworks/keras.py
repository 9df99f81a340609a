"""Base of submissions that are a ``keras.Model``: return it from ``build``.

The model sees float32 images (n, height, width, channels) scaled to 0..1, float32 windows (n, steps, variables) or int tokens
(n, t). It returns probabilities (softmax), or a forecast (n, horizon, variables) relative to the last value of the window.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np

from harness.contract import Array, Split, Submission
from harness.frameworks.arrays import budgeted, default_batch, default_epochs, last_values, smoothed_log


class KerasSubmission(Submission):
    """Base of Keras submissions: set ``kind``, and return a ``keras.Model`` from ``build``. The model may be compiled or not.

    ``params`` may hold ``learning_rate``, ``batch_size`` and ``epochs``; the class attributes are their defaults. A model is
    compiled with Adam unless it is already. The weights of the epoch with the lowest validation loss are kept.
    """

    epochs: ClassVar[int | None] = None
    """Epochs of a full fit; None for `default_epochs`."""
    batch_size: ClassVar[int | None] = None
    """Rows in a batch; None for `default_batch`."""
    learning_rate: ClassVar[float] = 2e-3
    model: Any

    @classmethod
    def supports_budget(cls) -> bool:
        return cls.fit is KerasSubmission.fit

    @abstractmethod
    def build(self, train: Split) -> Any:
        """Return a ``keras.Model``. ``self.task_kind`` has the fields of the task's kind; ``train`` shows the shapes of arrays."""

    def setting(self, name: str) -> Any:
        """Return a setting such as ``learning_rate``: the value in ``params``, or else the class attribute."""
        return self.params.get(name, getattr(self, name))

    def inputs(self, x: Array) -> Array:
        """Return x as the model sees it, float32 or int: images scaled to 0..1, windows relative to their last value."""
        if x.dtype == np.uint8:
            return x.astype(np.float32) / np.float32(255)
        return x - last_values(x) if self.task_kind.name == "forecasting" else x

    def targets(self, split: Split) -> Array:
        """Return a split's targets as the model learns them: futures relative to the last value of the window, others unchanged."""
        return split.labels - last_values(split.x) if self.task_kind.name == "forecasting" else split.labels

    def place(self) -> Any:
        """Return a context manager that puts new arrays on the device of this submission."""
        return keras.device(self.device.replace("cuda", "gpu"))

    def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
        with self.place():
            self.model = self.build(train)
            if not self.model.compiled:
                loss = "mse" if self.task_kind.name == "forecasting" else "sparse_categorical_crossentropy"
                self.model.compile(
                    optimizer=keras.optimizers.Adam(self.setting("learning_rate"), clipnorm=1.0), loss=loss
                )
            best = _Best(report)
            self.model.fit(
                self.inputs(train.x),
                self.targets(train),
                batch_size=int(self.setting("batch_size") or default_batch(len(train))),
                epochs=budgeted(int(self.setting("epochs") or default_epochs(len(train))), self.budget),
                validation_data=(self.inputs(valid.x), self.targets(valid)),
                callbacks=[best],
                verbose=0,
            )
            if best.weights:
                self.model.set_weights(best.weights)

    def predict(self, x: Array) -> Array:
        with self.place():
            answer = np.asarray(self.model.predict(self.inputs(x), batch_size=512, verbose=0))
        name = self.task_kind.name
        if name == "forecasting":
            return np.asarray(answer + last_values(x), dtype=np.float32)
        if name == "next-token":
            return smoothed_log(answer)
        return answer.argmax(axis=-1) if name == "transduction" else answer

    def n_parameters(self) -> int:
        return int(self.model.count_params())

    def summary(self) -> str:
        lines: list[str] = []
        self.model.summary(print_fn=lambda line, **_: lines.append(str(line)), line_length=72)
        return "\n".join(lines)


class _Best(keras.callbacks.Callback):  # type: ignore[misc]
    """Callback that reports each epoch's validation loss, and keeps the weights of the epoch with the lowest one."""

    def __init__(self, report: Callable[[float], None]) -> None:
        super().__init__()
        self.report, self.loss = report, float("inf")
        self.weights: list[Array] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        loss = float((logs or {})["val_loss"])
        if loss < self.loss:
            self.loss, self.weights = loss, self.model.get_weights()
        self.report(loss)
