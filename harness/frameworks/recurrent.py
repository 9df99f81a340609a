"""Recurrent network with any cell, for classification of sequences, forecasts and next tokens.

Classes and forecasts come from the last state, next tokens from every state. A forecast reads each variable as a separate sequence,
one season a step, with shared weights (after SegRNN, Lin et al. 2023). Hundreds of hours become a few steps, which is faster and
learns better.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from harness.contract import Split
from harness.frameworks.torch import TorchSubmission

LONG_ROW_STEPS = 32
"""Number of time steps above which a row to classify is long. Long rows cost more, so they get ``hidden / 4`` and twice the
learning rate."""


class RecurrentSubmission(TorchSubmission):
    """Base of recurrent networks: set ``kind`` and ``cell``, such as ``nn.LSTM``.

    ``params`` need ``hidden``, ``layers`` and ``dropout``.
    """

    cell: ClassVar[type[nn.RNNBase]]
    long_batch: ClassVar[int] = 32
    """Batch size for long rows."""
    long: bool
    """True if the task is classification of long rows; set by ``build``."""

    def initialise(self, states: nn.RNNBase, steps: int) -> None:
        """Change the initial weights of recurrent layers that read long rows of ``steps`` steps, in place.

        The default changes nothing.
        """

    def build(self, train: Split) -> nn.Module:
        """Return the network for the task's kind, and set ``batch_size``, ``epochs`` and ``long`` for the rows of this task."""
        kind, hidden, layers = self.task_kind, self.params["hidden"], self.params["layers"]
        forecasting, tokens = kind.name == "forecasting", kind.name == "next-token"
        steps = train.x.shape[1] // kind.season if forecasting else train.x.shape[1]
        # A row costs and teaches in proportion to its steps: long rows get small batches, and epochs for enough batches.
        most, enough = (2048, 140) if tokens else (4096, 280)  # with a target at every step, a row teaches more
        self.batch_size = min(max(most // steps, 16), 64)  # type: ignore[misc]
        self.epochs = int(np.clip(enough * self.batch_size / len(train), 6, 40))  # type: ignore[misc]
        self.long = kind.name == "sequence-classification" and steps > LONG_ROW_STEPS
        if self.long:
            hidden //= 4
            self.batch_size, self.epochs = self.long_batch, int(np.clip(24_000 / len(train), 4, 40))  # type: ignore[misc]
        width = hidden if tokens else kind.season if forecasting else train.x.shape[2]
        outputs = kind.vocabulary if tokens else kind.horizon if forecasting else kind.classes
        dropout = self.params["dropout"]
        states = self.cell(width, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        if self.long:
            self.initialise(states, steps)
        head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, outputs))
        if tokens:
            return _EveryState(nn.Embedding(kind.vocabulary, width), states, head)
        return _Seasons(_LastState(states, head), kind.season) if forecasting else _LastState(states, head)

    def optimizer(self) -> torch.optim.Optimizer:
        optimizer = super().optimizer()
        for group in optimizer.param_groups:
            group["lr"] *= 2 if self.long else 1
        return optimizer


class _LastState(nn.Module):
    """Network from float32 rows (n, t, width) to outputs (n, outputs), computed by ``head`` from the last state."""

    def __init__(self, states: nn.RNNBase, head: nn.Module) -> None:
        super().__init__()
        self.states, self.head = states, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.states(x)[0][:, -1])  # type: ignore[no-any-return]


class _EveryState(nn.Module):
    """Network from int64 tokens (n, t) to logits (n, t, outputs), computed by ``head`` from the state at each token."""

    def __init__(self, embedding: nn.Embedding, states: nn.RNNBase, head: nn.Module) -> None:
        super().__init__()
        self.embedding, self.states, self.head = embedding, states, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.states(self.embedding(x))[0])  # type: ignore[no-any-return]


class _Seasons(nn.Module):
    """Network from windows (n, t, variables) to futures (n, horizon, variables).

    It passes each variable of each window to ``network`` as a separate row, one season a step.
    """

    def __init__(self, network: nn.Module, season: int) -> None:
        super().__init__()
        self.network, self.season = network, season

    def forward(self, x: Tensor) -> Tensor:
        n, t, variables = x.shape
        whole = x[:, t % self.season :].transpose(1, 2).reshape(n * variables, -1, self.season)
        return self.network(whole).reshape(n, variables, -1).transpose(1, 2)  # type: ignore[no-any-return]
