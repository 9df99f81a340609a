"""Handwritten digits with forty labels: the images and test split of `digits`, four labelled images of each class to learn from.

The other training images come without labels, as ``train.unlabelled``, for entries that can use them. `valid` holds forty labels
more: all 359 would teach a search more than the forty that it tunes for. Scores depend on the choice of so few labels, so they are
drawn once, from a fixed seed.
"""

import numpy as np

from harness import Data, ImageClassification, Split, Task, stratified
from harness.datasets import digits

EACH = 4


def few(split: Split, rng: np.random.Generator) -> np.ndarray:
    """Rows of `EACH` images of every class, in random order."""
    rows = [rng.permutation(np.flatnonzero(split.labels == label))[:EACH] for label in np.unique(split.labels)]
    return rng.permutation(np.concatenate(rows))


def load() -> Data:
    images, labels = digits()
    images = np.round(images * 255 / 16).astype(np.uint8)[..., None]
    data, rng = stratified(images, labels, valid=0.2, test=0.3), np.random.default_rng(0)
    train, valid = few(data.train, rng), few(data.valid, rng)
    unlabelled = np.delete(data.train.x, train, axis=0)
    return Data(Split(data.train.x[train], data.train.labels[train], unlabelled),
                Split(data.valid.x[valid], data.valid.labels[valid]), data.test)


TASK = Task(name="digits-40", kind=ImageClassification(classes=10), load=load, metric="accuracy", time_limit=120,
            description="8x8 grey digits to their class, 40 labels and 858 images without")
