"""Parts of a training split: what halving goes by where a submission reports no losses."""

from __future__ import annotations

import numpy as np

from harness.contract import Array, Data, Split

WHOLE = 9
"""Parts are counted in ninths, so that a third of a third is the smallest."""
ENOUGH = 2000
"""Training rows from which parts of them tell good hyperparameters from bad ones."""


def part(data: Data, ninths: int, rng: np.random.Generator) -> Data:
    """The data with so many ninths of the training rows, classes in proportion where targets are classes (n,) of integers."""
    train = data.train
    rows = spread(train.labels, rng)[: -(-len(train) * ninths // WHOLE)]
    index = np.sort(rows)
    return Data(Split(train.x[index], train.labels[index], train.unlabelled), data.valid, data.test)


def spread(y: Array, rng: np.random.Generator) -> Array:
    """All rows in an order of which every beginning is a fair sample, int64 (n,)."""
    order = rng.permutation(len(y))
    if y.ndim != 1 or y.dtype.kind not in "iu":
        return order
    place = np.empty(len(y))
    for label in np.unique(y):
        mine = order[y[order] == label]
        place[mine] = np.arange(len(mine)) / len(mine)  # every class has one at the very front
    return order[np.argsort(place[order], kind="stable")]
