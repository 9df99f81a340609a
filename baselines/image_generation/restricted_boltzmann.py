"""Class-conditional restricted Boltzmann machine, sampled by Gibbs steps, torch.

Smolensky (1986), Hinton (2002); trained by persistent contrastive divergence (Tieleman 2008): chains that continue from batch to
batch sample the model, each with its class held fixed. Units are centred (Montavon and Müller 2012); without this the machine
hardly learns in so few steps. A pixel's shade is the probability that it is on; pictures are the probabilities of the last step.
Sampling starts from the chains at the end of training.

Test Fréchet distance 3.232 on digit-images (7.1 s a fit): means of three seeds with the defaults, a fit on one thread of a
2-core x86 CPU.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from harness import Float, Int, Split, Submission

BATCH, CHAINS, GIBBS, SHEETS = 64, 20, 200, 12  # rows a batch, chains a class, Gibbs steps before sampling, sheets kept


class RestrictedBoltzmann(Submission):
    kind = "image-generation"
    space = {"learning_rate": Float(0.02, 2.0, log=True), "hidden": Int(64, 1024, log=True),
             "weight_decay": Float(1e-5, 1e-2, log=True)}
    defaults = {"learning_rate": 0.3, "hidden": 256, "weight_decay": 1e-4}

    def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
        self.shape, classes, hidden = train.labels.shape[1:], self.task_kind.classes, self.params["hidden"]
        images, labels = self.tensors(train)
        held_out, held_labels = self.tensors(valid)
        self.centre = images.mean(dim=0).clamp(0.01, 0.99)
        self.weight = 0.01 * torch.randn(images.shape[1], hidden, device=self.device)
        self.visible = torch.logit(self.centre).repeat(classes, 1)  # biases (classes, pixels); the hidden ones are (classes, units)
        self.hidden = torch.zeros(classes, hidden, device=self.device)
        self.own = torch.arange(classes, device=self.device).repeat_interleave(CHAINS)
        self.chains = torch.bernoulli(self.centre.expand(len(self.own), -1))
        steps = max(1_200, len(images) // 8)
        self.snapshots = []
        for step in range(steps):
            rate = self.params["learning_rate"] * (1 - step / steps)
            rows = torch.randint(len(images), (BATCH,), device=self.device)
            self.learn(torch.bernoulli(images[rows]), labels[rows], rate)
            self.weight *= 1 - rate * self.params["weight_decay"]
            self.chains = torch.bernoulli(self.gibbs(self.chains, self.own))
            self.learn(self.chains, self.own, -rate)
            if (step + 1) * SHEETS // steps > step * SHEETS // steps:
                self.snapshots.append(self.predict(np.sort(np.arange(100) % classes)))
                report(float((self.gibbs(held_out, held_labels) - held_out).square().mean()))

    def learn(self, images: Tensor, labels: Tensor, rate: float) -> None:
        """Apply one half of the likelihood gradient: a positive rate for the data, a negative one for the chains."""
        on = self.units(images, labels)
        each = rate / len(images)
        self.weight += each * (images - self.centre).T @ (on - 0.5)
        self.hidden.index_add_(0, labels, each * on)
        self.visible.index_add_(0, labels, each * images)

    def units(self, images: Tensor, labels: Tensor) -> Tensor:
        return torch.sigmoid((images - self.centre) @ self.weight + self.hidden[labels])

    def gibbs(self, images: Tensor, labels: Tensor) -> Tensor:
        """Probabilities of the pixels after one step to the hidden units and back."""
        return torch.sigmoid((torch.bernoulli(self.units(images, labels)) - 0.5) @ self.weight.T + self.visible[labels])

    def tensors(self, split: Split) -> tuple[Tensor, Tensor]:
        images = torch.tensor(split.labels, device=self.device).flatten(1).float() / 255
        return images, torch.tensor(split.x, device=self.device)

    def predict(self, x: np.ndarray) -> np.ndarray:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            labels = torch.tensor(x, device=self.device)
            images = self.chains[labels * CHAINS + torch.randint(CHAINS, (len(x),)).to(self.device)]
            for _ in range(GIBBS):
                shades = self.gibbs(images, labels)
                images = torch.bernoulli(shades)
        return (shades * 255).round().byte().unflatten(1, self.shape).cpu().numpy()

    def n_parameters(self) -> int:
        return self.weight.numel() + self.visible.numel() + self.hidden.numel()
