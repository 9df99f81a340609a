"""A classifier on top of an encoder that first learned to clean noisy images, labelled or not, torch: for tasks with few labels.

The idea of stacked denoising autoencoders (Vincent et al. 2010) in one network: convolutions squeeze an image into a code and a
decoder draws it again. The encoder, pretrained on all images, is then fine-tuned on the few labels.

Test accuracy .991 on digits (16 s a fit), .865 on digits-40 (6.2 s): means of three seeds with the defaults, a fit on one
thread of a 2-core x86 CPU.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, the name that torch's own documentation uses

from harness import Float, Int, Split
from harness.frameworks.augment import shifted
from harness.frameworks.torch import TorchSubmission


def convolution(inputs: int, filters: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, filters, 3, stride, padding=1), nn.BatchNorm2d(filters), nn.ReLU())


class AutoencoderClassifier(TorchSubmission):
    kind = "image-classification"
    space = {"learning_rate": Float(3e-4, 1e-2, log=True), "encoder_rate": Float(0.01, 1.0, log=True), "noise": Float(0.1, 0.8),
             "code": Int(16, 128, log=True), "dropout": Float(0.0, 0.5)}
    defaults = {"learning_rate": 3e-3, "encoder_rate": 1.0, "noise": 0.4, "code": 64, "dropout": 0.3}

    def build(self, train: Split) -> nn.Module:
        (height, width, channels), code = train.x.shape[1:], self.params["code"]
        images = train.x if train.unlabelled is None else np.concatenate([train.x, train.unlabelled])
        self.epochs, self.reach = int(np.clip(15_000 / len(train), 6, 150)), max(min(height, width) // 20, 1)
        stride = 2 if min(height, width) >= 16 else 1
        encoder = nn.Sequential(convolution(channels, 16, stride), convolution(16, 32, 2), nn.Flatten(),
                                nn.LazyLinear(code), nn.BatchNorm1d(code), nn.ReLU())
        decoder = nn.Sequential(nn.Linear(code, 256), nn.ReLU(), nn.Linear(256, channels * height * width), nn.Sigmoid())
        self.encoder = self.pretrained(encoder.to(self.device), decoder.to(self.device), self.inputs(images))
        return nn.Sequential(self.encoder, nn.Dropout(self.params["dropout"]), nn.Linear(code, self.task_kind.classes))

    def pretrained(self, encoder: nn.Module, decoder: nn.Module, images: Tensor) -> nn.Module:
        """Train encoder and decoder to restore images with some pixels set to 0; return the encoder."""
        encoder(images[:2])  # the lazy layer takes its width from the first batch
        optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=2e-3)
        for _ in range(int(np.clip(25_000 / len(images), 4, 60))):
            for batch, _ in self.batches(images, images, 64):
                clean = self.augment(batch)
                noisy = clean * (torch.rand_like(clean) > self.params["noise"])
                optimizer.zero_grad()
                F.mse_loss(decoder(encoder(noisy)), clean.flatten(1)).backward()
                optimizer.step()
        return encoder

    def optimizer(self) -> torch.optim.Optimizer:
        rate = self.setting("learning_rate")
        groups = [{"params": self.encoder.parameters(), "lr": rate * self.params["encoder_rate"]},
                  {"params": self.module[2].parameters(), "lr": rate}]
        return torch.optim.AdamW(groups, weight_decay=self.weight_decay)

    def augment(self, x: Tensor) -> Tensor:
        return shifted(x, self.reach)
