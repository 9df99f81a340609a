"""Training of the feature networks. From the repository root, on 2 CPU cores:

    BAKEOFF_DATA=... python -m harness.kinds.weights.train digits-v1 fashion-v1 cifar10-v1[=ANOTHER_TASK.py]

Each is the inside of a classifier of its task's train split; test rows are never looked at. Accuracy on train and validation:
digits-v1 1.000 and .989, fashion-v1 .960 and .914; both took 56 s together. cifar10-v1, whose official images were not at hand,
saw the 45,000 training images of a copy re-encoded as JPEG: .827 and .671. Weights are kept as float16.
"""

from __future__ import annotations

import runpy
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, the name that torch's own documentation uses

from harness.contract import Array
from harness.kinds.features import NETWORKS, WEIGHTS

TASKS = {"digits-v1": ("digits", 60), "fashion-v1": ("fashion_mnist", 10), "cifar10-v1": ("cifar10", 12)}
"""File of the task and number of epochs."""
SEED = 0
FILTERS, FEATURES, TRAINING_BATCH_SIZE = (16, 32), 64, 128


def network(name: str) -> nn.Sequential:
    """Return an untrained network: images float32 (n, channels, side, side) in 0..1 to features (n, 64)."""
    side, (first, second) = NETWORKS[name].side, NETWORKS[name].strides
    left = side // first // second
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(NETWORKS[name].channels, FILTERS[0], 3, first, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(FILTERS[0], FILTERS[1], 3, second, padding=1),
            relu2=nn.ReLU(),
            flat=nn.Flatten(),
            dense=nn.Linear(FILTERS[1] * left * left, FEATURES),
        )
    )


def frozen(name: str) -> nn.Sequential:
    """Return the network with the shipped weights."""
    body = network(name)
    body.load_state_dict({key: value.float() for key, value in load_file(WEIGHTS / f"{name}.safetensors").items()})
    return body.eval()


def tensor(images: Array) -> Tensor:
    return torch.tensor(images).permute(0, 3, 1, 2).float() / 255


def train(name: str, other: str = "") -> None:
    file, epochs = TASKS[name]
    data = runpy.run_path(other or str(Path("tasks/image_classification") / f"{file}.py"))["TASK"].load()
    x, y = tensor(data.train.x), torch.tensor(data.train.labels)
    torch.manual_seed(SEED)
    body = network(name)
    head = nn.Sequential(
        nn.BatchNorm1d(FEATURES, affine=False), nn.ReLU(), nn.Dropout(0.3), nn.Linear(FEATURES, int(y.max()) + 1)
    )
    classifier = nn.Sequential(body, head)
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 4e-3, epochs=epochs, steps_per_epoch=len(x) // TRAINING_BATCH_SIZE
    )
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for index in order[: len(x) // TRAINING_BATCH_SIZE * TRAINING_BATCH_SIZE].view(-1, TRAINING_BATCH_SIZE):
            optimizer.zero_grad()
            F.cross_entropy(classifier(x[index]), y[index]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    classifier.eval()
    with torch.no_grad():
        for part in (data.train, data.valid):
            right = (classifier(tensor(part.x)).argmax(dim=1) == torch.tensor(part.labels)).float().mean()
            print(f"{name}: accuracy {right:.4f} on {len(part)} images")
        standardise(body, body(x))
    save_file(
        {key: value.half().contiguous() for key, value in body.state_dict().items()}, WEIGHTS / f"{name}.safetensors"
    )


def standardise(body: nn.Module, features: Tensor) -> None:
    """Give the features of the last layer mean 0 and variance 1, as the classifier's head saw them."""
    dense: Any = body.get_submodule("dense")
    dense.weight /= features.std(dim=0)[:, None]
    dense.bias.copy_((dense.bias - features.mean(dim=0)) / features.std(dim=0))


if __name__ == "__main__":
    for chosen in sys.argv[1:] or TASKS:
        name, _, other = chosen.partition("=")
        train(name, other)
