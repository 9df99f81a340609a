"""A small vision transformer, torch: an image as a row of patches, read by attention (Dosovitskiy et al. 2021).

Patches of 2 x 2 pixels on images smaller than 16 x 16, of 4 x 4 on larger ones; learned positions, layer normalisation first, the
mean over patches into the classifier. Neighbourhood is not built in: the network has to learn it.

Test accuracy .973 on digits (15 s a fit), .733 on digits-40 (7.4 s): means of three seeds with the defaults, a fit on one
thread of a 2-core x86 CPU.
"""

import numpy as np
import torch
from torch import Tensor, nn

from harness import Float, Int, Split
from harness.frameworks.augment import shifted
from harness.frameworks.torch import TorchSubmission

HEADS = 4


class Patches(nn.Module):
    """Embedding of images (n, channels, height, width) as patches (n, patches, width of the network) with positions."""

    def __init__(self, channels: int, height: int, width: int, side: int, dim: int) -> None:
        super().__init__()
        self.cut = nn.Conv2d(channels, dim, side, stride=side)
        # Not the usual deviation of .02: few images do not train it up, and without positions the patches have no order.
        self.positions = nn.Parameter(0.5 * torch.randn((height // side) * (width // side), dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.cut(x).flatten(2).transpose(1, 2) + self.positions


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=1)


class ViT(TorchSubmission):
    kind = "image-classification"
    weight_decay = 0.05
    space = {"learning_rate": Float(3e-4, 1e-2, log=True), "depth": Int(2, 6), "head": Int(8, 32, log=True),
             "dropout": Float(0.0, 0.3), "smoothing": Float(0.0, 0.2)}
    defaults = {"learning_rate": 2e-3, "depth": 3, "head": 16, "dropout": 0.0, "smoothing": 0.1}

    def build(self, train: Split) -> nn.Module:
        height, width, channels = train.x.shape[1:]
        self.epochs = int(np.clip(15_000 / len(train), 8, 200))
        self.reach = min(height, width) // 20
        side, dim, dropout = 2 if min(height, width) < 16 else 4, HEADS * self.params["head"], self.params["dropout"]
        layers = [
            nn.TransformerEncoderLayer(dim, HEADS, 2 * dim, dropout, "gelu", batch_first=True, norm_first=True)
            for _ in range(self.params["depth"])]
        return nn.Sequential(Patches(channels, height, width, side, dim), *layers, nn.LayerNorm(dim), Mean(),
                             nn.Linear(dim, self.task_kind.classes))

    def augment(self, x: Tensor) -> Tensor:
        return shifted(x, self.reach)
