"""A small dense network for the benchmarks: two hidden layers of 64."""

import numpy as np
from torch import nn

from harness import Float, Split
from harness.frameworks.torch import TorchSubmission


class MLP(TorchSubmission):
    kind = "image-classification"
    epochs = 30
    space = {
        "learning_rate": Float(1e-4, 1e-1, log=True),
        "weight_decay": Float(1e-6, 1e-1, log=True),
        "dropout": Float(0.0, 0.5),
    }
    defaults = {"learning_rate": 3e-3, "weight_decay": 1e-4, "dropout": 0.1}

    def build(self, train: Split) -> nn.Module:
        share, pixels = self.params["dropout"], int(np.prod(train.x.shape[1:]))
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(pixels, 64),
            nn.ReLU(),
            nn.Dropout(share),
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Dropout(share),
            nn.Linear(64, self.task_kind.classes),
        )
