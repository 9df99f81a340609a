"""A small LSTM for the benchmarks: one layer of 32."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from harness import Float
from harness.frameworks.recurrent import RecurrentSubmission


class LSTM(RecurrentSubmission):
    kind = "sequence-classification"
    cell = nn.LSTM
    space = {
        "learning_rate": Float(1e-3, 1e-1, log=True),
        "weight_decay": Float(1e-6, 1e-1, log=True),
        "dropout": Float(0.0, 0.5),
    }
    defaults = {"learning_rate": 1e-2, "weight_decay": 1e-4, "dropout": 0.1}

    def __init__(self, params: Mapping[str, Any], *, seed: int, device: str) -> None:
        super().__init__({"hidden": 32, "layers": 1, "epochs": 15, **params}, seed=seed, device=device)
