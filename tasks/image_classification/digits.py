"""Handwritten digits, 8 x 8 pixels, 1,797 of them (Alpaydin and Kaynak 1998), as scikit-learn ships them.

Good entries reach .98 to .99; classes are balanced, so accuracy ranks.
"""

import numpy as np

from harness import Data, ImageClassification, Task, stratified
from harness.datasets import digits


def load() -> Data:
    images, labels = digits()
    images = np.round(images * 255 / 16).astype(np.uint8)[..., None]
    return stratified(images, labels, valid=0.2, test=0.3)


TASK = Task(name="digits", kind=ImageClassification(classes=10), load=load, metric="accuracy", time_limit=120,
            description="8x8 grey digits to their class")
