"""Base of submissions that are a torch module: return it from ``build``, and one training loop fits it to any kind of task.

The module sees float32 images (n, channels, height, width) scaled to 0..1, float32 windows (n, steps, variables) or int64 tokens
(n, t). It returns class logits (n, classes); a forecast (n, horizon, variables) relative to the last value of the window; or token
logits (n, t, vocabulary). The loss is cross-entropy, or squared error for forecasts.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, the name that torch's own documentation uses
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR

from harness.contract import Array, Split, Submission
from harness.frameworks.arrays import budgeted, default_batch, default_epochs
from harness.frameworks.batch import FitManyResult, Report
from harness.frameworks.vectorized.layers import replace_dropout
from harness.frameworks.vectorized.protocol import TrainingLoop

REPLACED_METHODS = ("fit", "gradients", "validation_loss", "answers")
"""Methods that a vectorized fit replaces: a submission that overrides one of them is fitted alone."""


class TorchSubmission(Submission):
    """Base of torch submissions: set ``kind``, and return an ``nn.Module`` from ``build``.

    ``params`` may hold any of the settings below; the class attributes are their defaults. Training takes AdamW with a one-cycle
    learning rate and gradients clipped to norm 1. The weights of the epoch with the lowest validation loss are kept.
    """

    epochs: ClassVar[int | None] = None
    """Epochs of a full fit; None for `default_epochs`."""
    batch_size: ClassVar[int | None] = None
    """Rows in a batch; None for `default_batch`."""
    learning_rate: ClassVar[float] = 2e-3
    weight_decay: ClassVar[float] = 1e-4
    schedule: ClassVar[str] = "one-cycle"
    """Course of the learning rate: "one-cycle" (up, then down along a cosine), "cosine" (down only) or "constant"."""
    clip: ClassVar[float | None] = 1.0
    """Norm to which gradients are clipped; None for no clipping."""
    smoothing: ClassVar[float] = 0.0
    """Label smoothing: share of a class label that is spread over all classes in training."""
    patience: ClassVar[int | None] = None
    """Epochs without a lower validation loss after which the fit ends; None for no early end."""
    mixed: ClassVar[bool] = True
    """Mixed precision: a GPU computes the forward pass in bfloat16 where that is safe (`torch.autocast`). A CPU never does."""
    predict_batch: ClassVar[int] = 512
    """Rows in a batch outside training."""
    module: nn.Module

    @classmethod
    def supports_budget(cls) -> bool:
        return cls.fit is TorchSubmission.fit and cls.begin is TorchSubmission.begin

    @classmethod
    def supports_fit_many(cls) -> bool:
        """Return True if the class overrides none of `REPLACED_METHODS`; in that case import the vectorized trainer."""
        supported = all(getattr(cls, name) is getattr(TorchSubmission, name) for name in REPLACED_METHODS)
        if supported:  # the server asks before it forks, so that no fork has to import the trainer
            importlib.import_module("harness.frameworks.vectorized.trainer")
        return supported

    @classmethod
    def fit_many(
        cls, makers: Sequence[Callable[[], Any]], train: Split, valid: Split, report: Report, max_members: int
    ) -> FitManyResult[Any]:
        """Fit the models that ``makers`` return in one training loop, see `harness.frameworks.vectorized.trainer.fit_many`."""
        from harness.frameworks.vectorized import trainer

        return trainer.fit_many(makers, train, valid, report, max_members)

    @abstractmethod
    def build(self, train: Split) -> nn.Module:
        """Return an untrained module. ``self.task_kind`` has the fields of the task's kind; ``train`` shows the shapes of
        arrays."""

    def setting(self, name: str) -> Any:
        """Return a setting such as ``learning_rate``: the value in ``params``, or else the class attribute."""
        return self.params.get(name, getattr(self, name))

    def inputs(self, x: Array) -> Tensor:
        """Return x as a tensor on the device, as `forward` takes it.

        Images, uint8 (n, height, width, channels), become float32 (n, channels, height, width) scaled to 0..1.
        """
        if x.dtype == np.uint8:
            return torch.tensor(x, device=self.device).permute(0, 3, 1, 2).float().div_(255)
        return torch.tensor(x, device=self.device)

    def forward(self, x: Tensor) -> Tensor:
        """Return the module's answer to a batch of `inputs`: logits, or a forecast in the units of the targets."""
        if self.task_kind.name == "forecasting":
            last: Tensor = x[:, -1:, :]
            return self.module(x - last) + last  # type: ignore[no-any-return]
        return self.module(x)  # type: ignore[no-any-return]

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of a batch, a tensor (). ``answer`` comes from `forward`, ``y`` are the targets."""
        if self.task_kind.name == "forecasting":
            return F.mse_loss(answer, y)
        smoothing = self.setting("smoothing") if self.module.training else 0.0
        rows, y = answer.flatten(0, -2), y.flatten()
        # In a vectorized fit, answers are laid out in columns, where a softmax of few classes is fast.
        if rows.stride(0) == 1:
            return F.cross_entropy(rows.T[None], y[None], label_smoothing=smoothing)
        return F.cross_entropy(rows, y, label_smoothing=smoothing)

    def optimizer(self) -> torch.optim.Optimizer:
        """Return an optimizer of the module's weights. `fit` passes a closure to its ``step``, so that L-BFGS works too."""
        rates = {"lr": self.setting("learning_rate"), "weight_decay": self.setting("weight_decay")}
        return torch.optim.AdamW(self.module.parameters(), **rates, fused=True)

    def scheduler(self, optimizer: torch.optim.Optimizer, epochs: int, steps: int) -> LRScheduler:
        """Return the scheduler of the learning rate, which is stepped after each batch. An epoch has ``steps`` batches.

        Raises ValueError for an unknown ``schedule``.
        """
        match self.setting("schedule"):
            case "one-cycle":
                rates = [group["lr"] for group in optimizer.param_groups]
                momentum = any("betas" in group or group.get("momentum") for group in optimizer.param_groups)
                return OneCycleLR(optimizer, rates, epochs=epochs, steps_per_epoch=steps, cycle_momentum=momentum)
            case "cosine":
                return CosineAnnealingLR(optimizer, epochs * steps)
            case "constant":
                return LambdaLR(optimizer, lambda step: 1.0)
            case other:
                raise ValueError(f"the schedule should be one-cycle, cosine or constant; it is {other!r}")

    def augment(self, x: Tensor) -> Tensor:
        """Return a training batch of `inputs` with random changes, in the same shape. The default changes nothing."""
        return x

    def batches(self, x: Tensor, y: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one epoch of shuffled batches of ``size`` rows, as inputs and targets.

        A partial last batch is left out unless it is the only one.
        """
        order = torch.randperm(len(x), device=x.device)
        for start in range(0, max(len(x) - size + 1, 1), size):
            index = order[start : start + size]
            yield x.index_select(0, index), y.index_select(0, index)

    def precision(self) -> torch.autocast:
        """Return a context manager in which a GPU computes in bfloat16 if ``mixed`` is set."""
        return torch.autocast("cuda", torch.bfloat16, enabled=self.setting("mixed") and self.device.startswith("cuda"))

    def begin(self, train: Split) -> TrainingLoop:
        """Build the module on the device; return the settings of its training loop: epochs, batch size, clipping and patience."""
        self.module = replace_dropout(self.build(train)).to(self.device)
        epochs = budgeted(int(self.setting("epochs") or default_epochs(len(train))), self.budget)
        size = min(int(self.setting("batch_size") or default_batch(len(train))), len(train))
        return TrainingLoop(epochs, size, self.setting("clip"), self.setting("patience"))

    def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
        """Build the module with `begin` and train it; report the validation loss after each epoch.

        The module ends with the weights of the epoch with the lowest validation loss.
        """
        epochs, size, _, patience = self.begin(train)
        x, y = self.inputs(train.x), torch.tensor(train.labels, device=self.device)
        optimizer = self.optimizer()
        schedule = self.scheduler(optimizer, epochs, max(len(x) // size, 1))
        best, kept, best_epoch = float("inf"), {}, 0
        for epoch in range(epochs):
            self.module.train()
            for batch, target in self.batches(x, y, size):
                optimizer.step(partial(self.gradients, optimizer, self.augment(batch), target))  # type: ignore[arg-type]
                schedule.step()
            loss = self.validation_loss(valid)
            if loss < best:
                best, best_epoch = loss, epoch
                kept = {name: value.clone() for name, value in self.module.state_dict().items()}
            report(loss)
            if patience and epoch - best_epoch >= patience:
                break
        if kept:
            self.module.load_state_dict(kept)

    def gradients(self, optimizer: torch.optim.Optimizer, batch: Tensor, target: Tensor) -> Tensor:
        """Compute the gradients of the module's weights on a batch; return the mean loss of the batch, a tensor ().

        An optimizer may call this more than once a step.
        """
        optimizer.zero_grad(set_to_none=True)
        with self.precision():
            loss = self.loss(self.forward(batch), target)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.setting("clip") is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.setting("clip"))
        return loss

    @torch.no_grad()
    def answers(self, x: Array) -> Iterator[Tensor]:
        """Yield float32 answers of `forward` to x, on the device, for ``predict_batch`` rows at a time."""
        self.module.eval()
        for start in range(0, len(x), self.predict_batch):
            with self.precision():
                answer = self.forward(self.inputs(x[start : start + self.predict_batch]))
            yield answer.float()

    @torch.no_grad()
    def validation_loss(self, valid: Split) -> float:
        """Return the mean loss over the validation split, or over its first 16 * ``predict_batch`` rows if it has more."""
        end = min(len(valid), 16 * self.predict_batch)
        total = 0.0
        for start, answer in zip(range(0, end, self.predict_batch), self.answers(valid.x[:end]), strict=True):
            y = torch.tensor(valid.labels[start : start + len(answer)], device=self.device)
            total += float(self.loss(answer, y)) * len(answer)
        return total / end

    def predict(self, x: Array) -> Array:
        name = self.task_kind.name
        out = []
        for answer in self.answers(x):
            if name.endswith("classification"):
                answer = answer.softmax(dim=-1)
            elif name == "next-token":
                answer = answer.log_softmax(dim=-1)
            elif name == "transduction":
                answer = answer.argmax(dim=-1)
            out.append(answer.cpu().numpy())
        return np.concatenate(out)

    def n_parameters(self) -> int:
        return sum(weight.numel() for weight in self.module.parameters())

    def summary(self) -> str:
        return str(self.module)
