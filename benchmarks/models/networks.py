"""Networks of the benchmarks that search their own architecture.

The environment variable ``BENCHMARK_CAPTURE`` is needed. At "off" each training step of a vectorized fit runs its Python code, and
no recording. A process whose steps contradict the variable cannot load this file.
"""

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from harness import Categorical, Float, Int, Split
from harness.frameworks.recurrent import RecurrentSubmission
from harness.frameworks.torch import TorchSubmission
from harness.frameworks.vectorized.trainer import CapturedStep  # type: ignore[attr-defined]  # fails if it takes another

REGULAR = {
    "learning_rate": Float(1e-4, 1e-1, log=True),
    "weight_decay": Float(1e-6, 1e-1, log=True),
    "dropout": Float(0.0, 0.5),
}
REGULAR_DEFAULTS = {"learning_rate": 1e-3, "weight_decay": 1e-4, "dropout": 0.3}


def run_function(self: CapturedStep, *inputs: Tensor) -> Sequence[Tensor]:
    """Call the function of a captured step, and record nothing."""
    return self.function(*inputs)


def calls_of_five() -> int:
    """Return how many of five captured steps call their function."""
    calls = 0

    def double(x: Tensor) -> list[Tensor]:
        nonlocal calls
        calls += 1
        return [2 * x]

    step = CapturedStep(double)
    for _ in range(5):
        step(torch.ones(1))
    return calls


def switch_capture(state: str) -> None:
    """Switch captured steps off at "off". Raises RuntimeError if they contradict the state."""
    if state not in {"on", "off"}:
        raise RuntimeError(f"BENCHMARK_CAPTURE should be on or off; it is {state!r}")
    if state == "off":
        CapturedStep.__call__ = run_function  # type: ignore[method-assign]
    calls = calls_of_five()
    if (calls == 5) != (state == "off"):
        raise RuntimeError(f"BENCHMARK_CAPTURE is {state}, and {calls} of 5 captured steps call their function")


switch_capture(os.environ.get("BENCHMARK_CAPTURE", ""))


class Network(TorchSubmission):
    """Dense network on flattened rows, with width, depth and activation."""

    kind = ("image-classification", "forecasting")
    space = {
        "width": Int(16, 256, log=True),
        "depth": Int(1, 3),
        "activation": Categorical(("relu", "tanh", "gelu")),
        **REGULAR,
    }
    defaults = {"width": 32, "depth": 1, "activation": "tanh", **REGULAR_DEFAULTS}

    def build(self, train: Split) -> nn.Module:
        width, kind = self.params["width"], self.task_kind
        activation = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}[self.params["activation"]]
        forecasting = kind.name == "forecasting"
        shape = (kind.horizon, train.x.shape[2]) if forecasting else (kind.classes,)
        layers: list[nn.Module] = [nn.Flatten()]
        inputs = int(np.prod(train.x.shape[1:]))
        for _ in range(self.params["depth"]):
            layers += [nn.Linear(inputs, width), activation(), nn.Dropout(self.params["dropout"])]
            inputs = width
        layers.append(nn.Linear(inputs, int(np.prod(shape))))
        return nn.Sequential(*layers, *([nn.Unflatten(1, shape)] if forecasting else []))


class Recurrent(RecurrentSubmission):
    """GRU with size and depth."""

    kind = "sequence-classification"
    cell = nn.GRU
    space = {"hidden": Int(8, 64, log=True), "layers": Int(1, 2), **REGULAR}
    defaults = {"hidden": 16, "layers": 1, **REGULAR_DEFAULTS}


class FewShapes(Network):
    """`Network` of four architectures, so that members share one."""

    space = {"width": Categorical((32, 64)), "depth": Int(1, 2), **REGULAR}
    defaults = {"width": 32, "depth": 1, **REGULAR_DEFAULTS}

    def build(self, train: Split) -> nn.Module:
        self.params["activation"] = "relu"
        return super().build(train)


class FewCells(Recurrent):
    """`Recurrent` of four architectures, so that members share one."""

    space = {"hidden": Categorical((16, 32)), "layers": Int(1, 2), **REGULAR}
