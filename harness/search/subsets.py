"""Subsets of a training split: the low fidelity for submissions that report no losses."""

from __future__ import annotations

import numpy as np

from harness.contract import Array, Split

FULL_FIDELITY = 9
"""Fidelity of a full fit: all nine ninths of the training split. In ninths, the smallest subset is a third of a third."""
MIN_SUBSET_ROWS = 2000
"""Smallest number of training rows at which a fit on a subset tells good hyperparameters from bad ones."""


def subset(train: Split, ninths: int, rng: np.random.Generator) -> Split:
    """Return a split with ``ninths`` ninths of the training rows, rounded up, in their original order.

    The rows are drawn at random with ``rng``, stratified if the labels are classes, integers (n,).
    """
    rows = spread_rows(train.labels, rng)[: -(-len(train) * ninths // FULL_FIDELITY)]
    index = np.sort(rows)
    return Split(train.x[index], train.labels[index], train.unlabelled)


def spread_rows(y: Array, rng: np.random.Generator) -> Array:
    """Return all row numbers, int64 (n,), in a random order.

    If the labels ``y`` are classes, integers (n,), every prefix of the order is a stratified sample.
    """
    order = rng.permutation(len(y))
    if y.ndim != 1 or y.dtype.kind not in "iu":
        return order
    position = np.empty(len(y))
    for label in np.unique(y):
        of_label = order[y[order] == label]
        position[of_label] = np.arange(len(of_label)) / len(of_label)  # every class has one row at the very front
    return order[np.argsort(position[order], kind="stable")]
