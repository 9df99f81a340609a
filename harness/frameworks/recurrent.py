"""One recurrent network for three kinds, whatever its cell: the last state answers for a class or a future, every state for
a next token.

Forecasts treat every variable as a sequence of its own, read a season at a time, by one shared network (after SegRNN, Lin et
al. 2023): hundreds of hours become a few steps, which is faster and learns better.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from harness.contract import Split
from harness.frameworks.torch import TorchSubmission

LONG = 32
"""Steps above which a row to be classified is long: it costs more, and gets a quarter of ``hidden`` at twice the learning rate."""


class RecurrentSubmission(TorchSubmission):
    """Subclass, name the ``kind`` and the ``cell``. ``params`` hold ``hidden``, ``layers``, ``dropout`` and the base's own."""

    cell: ClassVar[type[nn.RNNBase]]
    long_batch: ClassVar[int] = 32
    """Rows in a batch of long ones."""
    long: bool
    """Whether the rows are to be classified and long, known once it is built."""

    def initialise(self, states: nn.RNNBase, steps: int) -> None:
        """Change how the cells start that read long rows, of so many steps. Nothing, unless a submission says otherwise."""

    def build(self, train: Split) -> nn.Module:
        kind, hidden, layers = self.task_kind, self.params["hidden"], self.params["layers"]
        forecasting, tokens = kind.name == "forecasting", kind.name == "next-token"
        steps = train.x.shape[1] // kind.season if forecasting else train.x.shape[1]
        # A long row teaches, and costs, as much as its steps: batches of few long rows, and epochs for enough batches at least.
        most, enough = (2048, 140) if tokens else (4096, 280)  # where every step has an answer, it teaches more
        self.batch_size = min(max(most // steps, 16), 64)  # type: ignore[misc]
        self.epochs = int(np.clip(enough * self.batch_size / len(train), 6, 40))  # type: ignore[misc]
        self.long = kind.name == "sequence-classification" and steps > LONG
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
    """(n, t, width) to (n, outputs)."""

    def __init__(self, states: nn.RNNBase, head: nn.Module) -> None:
        super().__init__()
        self.states, self.head = states, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.states(x)[0][:, -1])  # type: ignore[no-any-return]


class _EveryState(nn.Module):
    """Tokens (n, t) to logits (n, t, outputs)."""

    def __init__(self, embedding: nn.Embedding, states: nn.RNNBase, head: nn.Module) -> None:
        super().__init__()
        self.embedding, self.states, self.head = embedding, states, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.states(self.embedding(x))[0])  # type: ignore[no-any-return]


class _Seasons(nn.Module):
    """Windows (n, t, variables) to futures (n, horizon, variables), each variable by itself, a season a step."""

    def __init__(self, network: nn.Module, season: int) -> None:
        super().__init__()
        self.network, self.season = network, season

    def forward(self, x: Tensor) -> Tensor:
        n, t, variables = x.shape
        whole = x[:, t % self.season :].transpose(1, 2).reshape(n * variables, -1, self.season)
        return self.network(whole).reshape(n, variables, -1).transpose(1, 2)  # type: ignore[no-any-return]
