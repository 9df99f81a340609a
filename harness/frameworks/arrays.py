"""Conversions of a task's arrays into feature matrices and rows, and default sizes of a training loop."""

from __future__ import annotations

import numpy as np

from harness.contract import Array


def features(x: Array) -> Array:
    """Return x (n, ...) as flat features, float32 (n, k). Images (uint8) are scaled to 0..1; tokens are converted to floats."""
    flat = x.reshape(len(x), -1)
    return flat.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else flat.astype(np.float32)


def default_epochs(rows: int) -> int:
    """Return the default number of epochs for a training split of ``rows`` rows: about 300,000 rows seen, in 6 to 40 epochs.

    A very small split gets more epochs, enough for 200 batches.
    """
    return int(max(np.clip(300_000 / rows, 6, 40), 200 * default_batch(rows) / rows))


def default_batch(rows: int) -> int:
    """Return the default batch size for a training split of ``rows`` rows: a power of two from 32 to 128, for about 32 batches."""
    return int(np.clip(2 ** (max(rows // 32, 1).bit_length() - 1), 32, 128))


def budgeted(epochs: int, budget: float) -> int:
    """Return the number of epochs of a fit with this ``budget``, a share of a full fit of ``epochs`` epochs.

    The share counts from at least 20 epochs, because a learning rate hardly moves in one or two. The result is at most ``epochs``.
    """
    return min(round(max(epochs, 20) * budget), epochs)


def last_values(x: Array) -> Array:
    """Return the last step of each window (n, t, variables) as (n, 1, variables). Forecasters subtract it to learn no levels."""
    return x[:, -1:, :]


def pooled(x: Array) -> Array:
    """Return windows (n, t, variables) as one row for each variable of each window, (n * variables, t)."""
    return x.transpose(0, 2, 1).reshape(-1, x.shape[1])


def unpooled(rows: Array, variables: int) -> Array:
    """Return the rows of `pooled`, (n * variables, t), as windows (n, t, variables) again."""
    return rows.reshape(-1, variables, rows.shape[1]).transpose(0, 2, 1)


def smoothed_log(p: Array, floor: float = 1e-6) -> Array:
    """Return the float32 logarithms of probabilities ``p``, normalized over the last axis and raised to at least ``floor``."""
    size = p.shape[-1]
    p = (1 - floor * size) * p / p.sum(axis=-1, keepdims=True) + floor
    return np.log(p).astype(np.float32)
