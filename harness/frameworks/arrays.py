"""How the arrays of each kind become a plain feature matrix and target, for learners that want no more than that."""

from __future__ import annotations

import numpy as np

from harness.contract import Array


def features(x: Array) -> Array:
    """Rows of float32 features (n, k): images scaled to 0..1, everything flattened; integer tokens are left as numbers."""
    flat = x.reshape(len(x), -1)
    return flat.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else flat.astype(np.float32)


def default_epochs(rows: int) -> int:
    """How many epochs a small network gets where nobody says: about 300,000 samples seen, between 6 and 40 epochs.

    Very few rows are seen more often, so that there are 200 batches to learn from.
    """
    return int(max(np.clip(300_000 / rows, 6, 40), 200 * default_batch(rows) / rows))


def default_batch(rows: int) -> int:
    """How many rows a batch has where nobody says: about 32 batches an epoch, of 32 to 128 rows."""
    return int(np.clip(2 ** (max(rows // 32, 1).bit_length() - 1), 32, 128))


def budgeted(epochs: int, budget: float) -> int:
    """The epochs of a fit that is to take this share of a full one's, and of twenty at least: in one hardly a rate moves."""
    return min(round(max(epochs, 20) * budget), epochs)


def last_values(x: Array) -> Array:
    """The last step of each window, (n, 1, variables): what forecasters subtract so that levels need not be learned."""
    return x[:, -1:, :]


def pooled(x: Array) -> Array:
    """Every variable's window as a row of its own: (n, t, variables) to (n * variables, t)."""
    return x.transpose(0, 2, 1).reshape(-1, x.shape[1])


def unpooled(rows: Array, variables: int) -> Array:
    """The reverse of `pooled`: (n * variables, t) to (n, t, variables)."""
    return rows.reshape(-1, variables, rows.shape[1]).transpose(0, 2, 1)


def smoothed_log(p: Array, floor: float = 1e-6) -> Array:
    """Log-probabilities float32 of probabilities over the last axis, none smaller than about ``floor``."""
    size = p.shape[-1]
    p = (1 - floor * size) * p / p.sum(axis=-1, keepdims=True) + floor
    return np.log(p).astype(np.float32)
