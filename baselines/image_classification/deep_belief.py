"""Deep belief network, torch: restricted Boltzmann machines stacked greedily, then trained on labels. Hinton et al. 2006.

Each machine learns from the outputs of the one below, by one step of contrastive divergence and without labels, so that unlabelled
images help. Their weights initialise a network of sigmoid layers.

Test accuracy .978 on digits (9.5 s a fit), .886 on digits-40 (3.8 s): means of three seeds with the defaults, a fit on one
thread of a 2-core x86 CPU.
"""

import numpy as np
import torch
from torch import Tensor, nn

from harness import Float, Int, Split
from harness.frameworks.arrays import default_epochs
from harness.frameworks.torch import TorchSubmission


def pretrain(layer: nn.Linear, x: Tensor, rate: float, epochs: int, size: int = 20, momentum: float = 0.9) -> None:
    """Train ``layer`` as the upward half of a restricted Boltzmann machine on x (n, inputs), probabilities in 0..1."""
    means = x.mean(dim=0).clamp(0.01, 0.99)
    visible_bias = torch.log(means / (1 - means))
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    weights = (layer.weight, layer.bias, visible_bias)
    speeds = [torch.zeros_like(weight) for weight in weights]
    for epoch in range(epochs):
        for batch in torch.randperm(len(x), device=x.device).split(size):
            data = x[batch]
            on = torch.sigmoid(layer(data))
            made = torch.sigmoid(torch.bernoulli(on) @ layer.weight + visible_bias)
            on_again = torch.sigmoid(layer(made))
            steps = ((on.T @ data - on_again.T @ made) / len(batch), (on - on_again).mean(0), (data - made).mean(0))
            for weight, speed, step in zip(weights, speeds, steps, strict=True):
                weight += speed.mul_(momentum).add_(step, alpha=rate * (1 - epoch / epochs))


class DeepBelief(TorchSubmission):
    kind = "image-classification"
    space = {"hidden": Int(64, 512, log=True), "machine_rate": Float(0.02, 0.2, log=True),
             "learning_rate": Float(1e-4, 1e-2, log=True), "weight_decay": Float(1e-4, 1e-1, log=True)}
    defaults = {"hidden": 256, "machine_rate": 0.1, "learning_rate": 2e-3, "weight_decay": 1e-2}

    def build(self, train: Split) -> nn.Module:
        images = train.x if train.unlabelled is None else np.concatenate([train.x, train.unlabelled])
        x = self.inputs(images).flatten(1)
        layers: list[nn.Module] = [nn.Flatten()]
        with torch.no_grad():
            for _ in range(2):
                layer = nn.Linear(x.shape[1], self.params["hidden"], device=x.device)
                pretrain(layer, x, self.params["machine_rate"], default_epochs(len(x)))
                x = torch.sigmoid(layer(x))
                layers += [layer, nn.Sigmoid()]
        return nn.Sequential(*layers, nn.Linear(self.params["hidden"], self.task_kind.classes))
