"""Training loop and model as the vectorized trainer sees them. `harness.frameworks.torch` fulfils this protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from harness.contract import Array, Split

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.optim.lr_scheduler import LRScheduler


class TrainingLoop(NamedTuple):
    """Settings of a training loop."""

    epochs: int
    batch_size: int
    clip: float | None
    """Largest norm of a gradient; None for no limit."""
    patience: int | None
    """Epochs without a lower validation loss after which the fit ends; None for no early end."""


class Trainable(Protocol):
    """Model that the vectorized trainer can train. The methods are those of `harness.frameworks.torch.TorchSubmission`."""

    params: dict[str, Any]
    device: str
    module: nn.Module
    predict_batch: ClassVar[int]

    def begin(self, train: Split) -> TrainingLoop: ...

    def inputs(self, x: Array) -> Tensor: ...

    def forward(self, x: Tensor) -> Tensor: ...

    def loss(self, answer: Tensor, y: Tensor) -> Tensor: ...

    def optimizer(self) -> torch.optim.Optimizer: ...

    def scheduler(self, optimizer: torch.optim.Optimizer, epochs: int, steps: int) -> LRScheduler: ...

    def augment(self, x: Tensor) -> Tensor: ...

    def batches(self, x: Tensor, y: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]: ...

    def precision(self) -> torch.autocast: ...

    def gradients(self, optimizer: torch.optim.Optimizer, batch: Tensor, target: Tensor) -> Tensor: ...

    def n_parameters(self) -> int: ...
