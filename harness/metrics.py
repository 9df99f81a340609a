"""Metrics as pure functions on arrays. Where a metric is a mean over samples, the function returns one value per sample.

Shapes: n samples, c classes, h horizon steps, v variables, t positions. Everything is computed in float64.
"""

from __future__ import annotations

import numpy as np

from harness.contract import Array

SMALLEST_PROBABILITY = 1e-15
"""Lower bound of probabilities before a logarithm, that of scikit-learn's ``log_loss`` for years: one confident mistake costs
34.5 nats, not infinity."""


def hard_labels(answer: Array) -> Array:
    """Return class labels (n,) int64 of an answer that is labels (n,) or probabilities (n, c)."""
    return np.asarray(answer.argmax(axis=1) if answer.ndim == 2 else answer, dtype=np.int64)


def probabilities(answer: Array, classes: int) -> Array:
    """Return probabilities (n, c) float64 of an answer that is labels (n,) or probabilities (n, c); rows sum to one."""
    if answer.ndim == 2:
        p = answer.astype(np.float64)
        return np.asarray(p / p.sum(axis=1, keepdims=True))
    certain: Array = np.eye(classes)[answer]
    return certain


def accuracy(answer: Array, y: Array) -> Array:
    """Return (n,): 1 where the label is right, else 0."""
    return np.asarray(hard_labels(answer) == y, dtype=np.float64)


def balanced_accuracy(answer: Array, y: Array) -> float:
    """Return the mean recall over the classes that occur in ``y`` (Brodersen et al. 2010)."""
    right = accuracy(answer, y)
    counts = np.bincount(y)
    hits = np.bincount(y, weights=right)
    return float(np.mean(hits[counts > 0] / counts[counts > 0]))


def log_loss(answer: Array, y: Array, classes: int) -> Array:
    """Return the (n,) negative log-probability of the true class, nats."""
    p = probabilities(answer, classes)[np.arange(len(y)), y]
    return np.asarray(-np.log(np.clip(p, SMALLEST_PROBABILITY, 1.0)))


def calibration_error(answer: Array, y: Array, classes: int, bins: int = 15) -> float:
    """Return the expected calibration error of the top label over equal-width bins (Guo et al. 2017)."""
    p = probabilities(answer, classes)
    confidence, right = p.max(axis=1), accuracy(answer, y)
    which = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.bincount(which, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(y))


def squared_error(answer: Array, y: Array) -> Array:
    """Return the (n,) mean over horizon and variables of the squared error; answer and y are (n, h, v)."""
    return np.asarray(np.square(answer.astype(np.float64) - y).mean(axis=(1, 2)))


def absolute_error(answer: Array, y: Array) -> Array:
    """Return the (n,) mean over horizon and variables of the absolute error; answer and y are (n, h, v)."""
    return np.asarray(np.abs(answer.astype(np.float64) - y).mean(axis=(1, 2)))


def scaled_error(answer: Array, y: Array, history: Array, season: int) -> Array:
    """Return (n,) absolute errors in units of the seasonal naive error inside ``history`` (m, t, v), per variable.

    MASE of Hyndman and Koehler (2006). A variable that never changes has scale 1.
    """
    steps = np.abs(history[:, season:].astype(np.float64) - history[:, :-season]).mean(axis=(0, 1))
    scale = np.where(steps > 0, steps, 1.0)
    return np.asarray((np.abs(answer.astype(np.float64) - y) / scale).mean(axis=(1, 2)))


def token_nats(answer: Array, y: Array) -> Array:
    """Return the (n,) mean over positions of the negative log-probability of the true token; answer (n, t, c), y (n, t)."""
    chosen = np.take_along_axis(answer, y[..., None], axis=2)[..., 0]
    return np.asarray(-np.maximum(chosen.astype(np.float64), np.log(SMALLEST_PROBABILITY)).mean(axis=1))


def exact_match(answer: Array, y: Array) -> Array:
    """Return (n,): 1 where every token is right, padding included, else 0."""
    return np.asarray((answer == y).all(axis=1), dtype=np.float64)


def token_accuracy(answer: Array, y: Array, pad: int) -> Array:
    """Return (n,) shares of right positions where truth or answer is not padding; 1 if both are all padding."""
    counted = ((answer != pad) | (y != pad)).sum(axis=1)
    wrong = (answer != y).sum(axis=1)
    return np.asarray(1 - wrong / np.maximum(counted, 1))
