"""DLinear in torch: one linear map for a window's trend, one for the remainder (Zeng et al. 2023).

The trend is a moving average over 25 steps, its ends padded with the window's first and last value. All variables share both maps,
whose weights start as the window's mean. Unlike the paper's model it sees windows relative to their last value, as all entries of
the shared loop do (and as NLinear does).

Test MSE .932 on sunspots (1.5 s a fit): means of three seeds with the defaults, a fit on one thread of a 2-core x86 CPU. Larger
data: .376 on etth1-96 (16 s a fit), .413 on etth1-192 (15 s), .431 on etth1-336 (23 s), .436 on etth1-720 (35 s), means of three
seeds; published with the same look-back of 336: .375, .405, .439, .472.
"""

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, the name that torch's own documentation uses

from harness import Categorical, Float, Split
from harness.frameworks.torch import TorchSubmission


class DLinear(TorchSubmission):
    kind = "forecasting"
    schedule, patience = "cosine", 5
    space = {"learning_rate": Float(1e-4, 1e-2, log=True), "weight_decay": Float(1e-5, 1.0, log=True),
             "batch_size": Categorical((16, 32, 64))}
    defaults = {"learning_rate": 1e-3, "weight_decay": 1e-4, "batch_size": 64}

    def build(self, train: Split) -> nn.Module:
        self.epochs = int(np.clip(80_000 / len(train), 10, 100))
        return Decomposed(train.x.shape[1], self.task_kind.horizon)


class Decomposed(nn.Module):
    """Network from windows (n, look-back, variables) to futures (n, horizon, variables), each variable by itself."""

    def __init__(self, lookback: int, horizon: int, smoothing: int = 25) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.trend, self.rest = nn.Linear(lookback, horizon), nn.Linear(lookback, horizon)
        for layer in (self.trend, self.rest):
            nn.init.constant_(layer.weight, 1 / lookback)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        half = self.smoothing // 2
        trend = F.avg_pool1d(F.pad(x, (half, half), mode="replicate"), self.smoothing, stride=1)
        answer: Tensor = self.trend(trend) + self.rest(x - trend)
        return answer.transpose(1, 2)
