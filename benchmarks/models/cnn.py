"""A small convolutional network for the benchmarks: two layers of 8 and 16 filters."""

from torch import nn

from harness import Float, Split
from harness.frameworks.torch import TorchSubmission


class CNN(TorchSubmission):
    kind = "image-classification"
    epochs = 15
    space = {
        "learning_rate": Float(1e-4, 1e-1, log=True),
        "weight_decay": Float(1e-6, 1e-1, log=True),
        "dropout": Float(0.0, 0.5),
    }
    defaults = {"learning_rate": 3e-3, "weight_decay": 1e-4, "dropout": 0.1}

    def build(self, train: Split) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(train.x.shape[3], 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(4),
            nn.Flatten(),
            nn.Dropout(self.params["dropout"]),
            nn.Linear(256, self.task_kind.classes),
        )
