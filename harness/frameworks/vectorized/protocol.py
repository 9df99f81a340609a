"""Protocol of the models that the vectorized trainer can train, and the settings of their training loop.

`harness.frameworks.torch` fulfils the protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from harness.contract import Array, Split

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.optim.lr_scheduler import LRScheduler


class TrainingLoop(NamedTuple):
    """Settings of the training loop of one model: epochs, rows in a batch, clipping of gradients and early end."""

    epochs: int
    batch_size: int
    clip: float | None
    """Norm to which the gradients of all weights together are clipped; None for no clipping."""
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
