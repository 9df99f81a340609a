"""Frozen feature networks for the scores of generated images, run in plain numpy: the parent process loads no framework.

A network is two 3x3 convolutions and a dense layer of 64 features: the inside of a classifier that was trained once on the train
split of one task (`harness/kinds/weights/train.py`). Over that split its features have mean 0 and variance 1, so distances are in
standard deviations. A network never changes under its name: other weights get another name. The features "pixels" are averaged
pixels and need no weights.
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
"""Images in one pass through a network. It keeps the unfolded patches of 28 x 28 images near 15 MB."""


@dataclass(frozen=True)
class Network:
    """Shape of a feature network: side (pixels) and channels of its square images, and the strides of its two convolutions."""

    side: int
    strides: tuple[int, int]
    channels: int = 1


NETWORKS: Mapping[str, Network] = {
    "digits-v1": Network(side=8, strides=(1, 2)),
    "fashion-v1": Network(side=28, strides=(2, 2)),
    "cifar10-v1": Network(side=32, strides=(2, 2), channels=3),
}


def check(name: str, shape: tuple[int, int, int]) -> None:
    """Raise DataError unless ``name`` is "pixels" or a feature network for images of ``shape`` (height, width, channels)."""
    if name == PIXELS:
        return
    if name not in NETWORKS:
        raise DataError(f"there is no feature network {name!r}; there are {', '.join((*NETWORKS, PIXELS))}")
    wanted = (NETWORKS[name].side, NETWORKS[name].side, NETWORKS[name].channels)
    if shape != wanted:
        raise DataError(f'the feature network {name!r} wants images {wanted}; these are {shape}. "{PIXELS}" takes any')


def extract(images: Array, name: str) -> Array:
    """Return the features of images uint8 (n, height, width, channels) by the network ``name``: float32 (n, 64).

    For "pixels" they are (n, at most 64 * channels). Raises DataError if there is no such network for these images.
    """
    check(name, images.shape[1:])
    if name == PIXELS:
        return pixels(images)
    out = np.empty((len(images), 64), dtype=np.float32)
    for start in range(0, len(images), IMAGES_PER_BATCH):
        out[start : start + IMAGES_PER_BATCH] = _forward(images[start : start + IMAGES_PER_BATCH], name)
    return out


def pixels(images: Array, side: int = 8) -> Array:
    """Return images uint8 (n, height, width, channels), averaged to at most ``side`` x ``side`` cells per channel, as flat rows.

    The rows are float32 (n, cells * channels) in 0..1.
    """
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
    """Return the 3x3 convolution of x (n, height, width, channels), padded by one pixel, with weight (channels * 9, filters).

    The result is (n, height / stride, width / stride, filters), rounded up.
    """
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::stride, ::stride]
    n, height, width = patches.shape[:3]
    return np.asarray(patches.reshape(n * height * width, -1) @ weight + bias).reshape(n, height, width, -1)


@cache
def _weights(name: str) -> Mapping[str, Array]:
    """Return a network's weights by layer: float32 matrices for channels-last images. The file has float16 in torch's layout."""
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
