"""Frozen feature networks for generation scores, run in plain numpy: the parent loads no framework.

Each network is two 3x3 convolutions and a dense layer of 64 features, the inside of a classifier of one data set, trained once on
that task's train split (`harness/kinds/weights/train.py`). Features have mean 0 and variance 1 over that split, so distances are
in its standard deviations. A network is never changed under its name: other weights are another name. "pixels" needs no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from harness.contract import Array
from harness.errors import DataError

WEIGHTS = Path(__file__).parent / "weights"
PIXELS = "pixels"
IMAGES_PER_BATCH = 500
"""Images a pass: keeps the unfolded patches of 28 x 28 images near 15 MB."""


@dataclass(frozen=True)
class Network:
    """Shape of a network: side and channels of its images, and the stride of each convolution."""

    side: int
    strides: tuple[int, int]
    channels: int = 1


NETWORKS: Mapping[str, Network] = {
    "digits-v1": Network(side=8, strides=(1, 2)),
    "fashion-v1": Network(side=28, strides=(2, 2)),
    "cifar10-v1": Network(side=32, strides=(2, 2), channels=3),
}


def check(name: str, shape: tuple[int, int, int]) -> None:
    """Raise DataError if there are no features of this name for images of ``shape`` (height, width, channels)."""
    if name == PIXELS:
        return
    if name not in NETWORKS:
        raise DataError(f"there is no feature network {name!r}; there are {', '.join((*NETWORKS, PIXELS))}")
    wanted = (NETWORKS[name].side, NETWORKS[name].side, NETWORKS[name].channels)
    if shape != wanted:
        raise DataError(f'the feature network {name!r} wants images {wanted}; these are {shape}. "{PIXELS}" takes any')


def extract(images: Array, name: str) -> Array:
    """Return features float32 (n, 64), for "pixels" (n, at most 64 * channels), of images uint8 (n, height, width, channels)."""
    check(name, images.shape[1:])
    if name == PIXELS:
        return pixels(images)
    out = np.empty((len(images), 64), dtype=np.float32)
    for start in range(0, len(images), IMAGES_PER_BATCH):
        out[start : start + IMAGES_PER_BATCH] = _forward(images[start : start + IMAGES_PER_BATCH], name)
    return out


def pixels(images: Array, side: int = 8) -> Array:
    """Average each channel to at most ``side`` x ``side`` cells; return float32 (n, cells * channels) in 0..1."""
    mean = images.astype(np.float32) / np.float32(255)
    for axis in (1, 2):
        edges = np.linspace(0, images.shape[axis], min(side, images.shape[axis]) + 1).round().astype(np.int64)
        width = np.diff(edges).astype(np.float32).reshape([-1 if place == axis else 1 for place in range(4)])
        mean = np.add.reduceat(mean, edges[:-1], axis=axis) / width
    return mean.reshape(len(images), -1)


def _forward(images: Array, name: str) -> Array:
    weights = _weights(name)
    x = images.astype(np.float32) / np.float32(255)
    for layer, stride in enumerate(NETWORKS[name].strides, start=1):
        x = np.maximum(_convolve(x, weights[f"conv{layer}.weight"], weights[f"conv{layer}.bias"], stride), 0)
    return np.asarray(x.reshape(len(x), -1) @ weights["dense.weight"] + weights["dense.bias"])


def _convolve(x: Array, weight: Array, bias: Array, stride: int) -> Array:
    """Compute a 3x3 convolution with one pixel of padding; x (n, height, width, channels), weight (channels * 9, filters)."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::stride, ::stride]
    n, height, width = patches.shape[:3]
    return np.asarray(patches.reshape(n * height * width, -1) @ weight + bias).reshape(n, height, width, -1)


@cache
def _weights(name: str) -> Mapping[str, Array]:
    """Return weights as float32 matrices for channels-last rows. They are stored as float16 in the layout of torch."""
    from safetensors.numpy import load_file

    stored = {key: value.astype(np.float32) for key, value in load_file(WEIGHTS / f"{name}.safetensors").items()}
    for layer in ("conv1", "conv2"):
        filters = stored[f"{layer}.weight"]
        stored[f"{layer}.weight"] = np.ascontiguousarray(filters.reshape(len(filters), -1).T)
    channels = stored["conv2.bias"].size
    dense = stored["dense.weight"]
    last = dense.reshape(len(dense), channels, -1).transpose(2, 1, 0)
    stored["dense.weight"] = np.ascontiguousarray(last.reshape(-1, len(dense)))
    return stored
