"""Metrics as pure functions on arrays. Where a metric is a mean over samples, the function returns one value per sample.

Shapes: n samples, c classes, h horizon steps, v variables, t positions. Everything is computed in float64.
"""

from __future__ import annotations

import numpy as np

from harness.contract import Array

SMALLEST_PROBABILITY = 1e-15
"""Lower bound of probabilities before a logarithm, for years that of scikit-learn's ``log_loss``. One confident mistake costs 34.5
nats, not infinity."""


def hard_labels(answer: Array) -> Array:
    """Return class labels, int64 (n,), of an answer: labels (n,), or probabilities (n, c), whose largest gives the label."""
    return np.asarray(answer.argmax(axis=1) if answer.ndim == 2 else answer, dtype=np.int64)


def probabilities(answer: Array, classes: int) -> Array:
    """Return class probabilities, float64 (n, c), of an answer that is labels (n,) or probabilities (n, c). Rows sum to one."""
    if answer.ndim == 2:
        p = answer.astype(np.float64)
        return np.asarray(p / p.sum(axis=1, keepdims=True))
    certain: Array = np.eye(classes)[answer]
    return certain


def accuracy(answer: Array, y: Array) -> Array:
    """Return float64 (n,): 1 where the label of an answer, labels (n,) or probabilities (n, c), equals ``y`` (n,), else 0."""
    return np.asarray(hard_labels(answer) == y, dtype=np.float64)


def balanced_accuracy(answer: Array, y: Array) -> float:
    """Return the mean recall (0..1) over the classes that occur in ``y`` (Brodersen et al. 2010)."""
    right = accuracy(answer, y)
    counts = np.bincount(y)
    hits = np.bincount(y, weights=right)
    return float(np.mean(hits[counts > 0] / counts[counts > 0]))


def log_loss(answer: Array, y: Array, classes: int) -> Array:
    """Return the negative log-probability of the true class ``y`` for each sample, (n,), in nats.

    The answer is labels (n,) or probabilities (n, classes).
    """
    p = probabilities(answer, classes)[np.arange(len(y)), y]
    return np.asarray(-np.log(np.clip(p, SMALLEST_PROBABILITY, 1.0)))


def calibration_error(answer: Array, y: Array, classes: int, bins: int = 15) -> float:
    """Return the expected calibration error of the top label over bins (a, b] of equal width (Guo et al. 2017)."""
    p = probabilities(answer, classes)
    confidence, right = p.max(axis=1), accuracy(answer, y)
    which = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.bincount(which, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(y))


def squared_error(answer: Array, y: Array) -> Array:
    """Return the squared error of each sample, (n,): a mean over horizon and variables. ``answer`` and ``y`` are (n, h, v)."""
    return np.asarray(np.square(answer.astype(np.float64) - y).mean(axis=(1, 2)))


def absolute_error(answer: Array, y: Array) -> Array:
    """Return the absolute error of each sample, (n,): a mean over horizon and variables. ``answer`` and ``y`` are (n, h, v)."""
    return np.asarray(np.abs(answer.astype(np.float64) - y).mean(axis=(1, 2)))


def scaled_error(answer: Array, y: Array, history: Array, season: int) -> Array:
    """Return the MASE of each sample, (n,) (Hyndman and Koehler 2006); ``answer`` and ``y`` are (n, h, v).

    The absolute error of a variable is divided by that of the seasonal naive forecast inside ``history`` (m, t, v); ``season`` is
    in steps. The divisor of a variable that never changes is 1.
    """
    steps = np.abs(history[:, season:].astype(np.float64) - history[:, :-season]).mean(axis=(0, 1))
    scale = np.where(steps > 0, steps, 1.0)
    return np.asarray((np.abs(answer.astype(np.float64) - y) / scale).mean(axis=(1, 2)))


def token_nats(answer: Array, y: Array) -> Array:
    """Return the (n,) mean over positions of the negative log-probability of the true token; answer (n, t, c), y (n, t).

    Probabilities are made to sum to one, so that a sum of 1.01, which counts as rounding, gains nothing.
    """
    chosen = np.take_along_axis(answer, y[..., None], axis=2)[..., 0].astype(np.float64)
    chosen -= np.log(np.exp(answer.astype(np.float64)).sum(axis=2))
    return np.asarray(-np.maximum(chosen, np.log(SMALLEST_PROBABILITY)).mean(axis=1))


def exact_match(answer: Array, y: Array) -> Array:
    """Return float64 (n,): 1 where all tokens of ``answer`` equal those of ``y``, both (n, t), padding included; else 0."""
    return np.asarray((answer == y).all(axis=1), dtype=np.float64)


def token_accuracy(answer: Array, y: Array, pad: int) -> Array:
    """Return the share of right tokens of each sample, (n,), over positions where ``answer`` or ``y``, both (n, t), is not ``pad``.

    It is 1 if both are all padding.
    """
    counted = ((answer != pad) | (y != pad)).sum(axis=1)
    wrong = (answer != y).sum(axis=1)
    return np.asarray(1 - wrong / np.maximum(counted, 1))
