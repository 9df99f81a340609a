"""Handwritten digits read as sequences: 8 steps, each a row of 8 grey values in 0..1 (Alpaydin and Kaynak 1998, scikit-learn).

The images, split and classes of `digits`, so that the two boards can be compared.
"""

import numpy as np

from harness import Data, SequenceClassification, Task, stratified
from harness.datasets import digits


def load() -> Data:
    images, labels = digits()
    return stratified((images / 16).astype(np.float32), labels, valid=0.2, test=0.3)


TASK = Task(name="digit-rows", kind=SequenceClassification(classes=10), load=load, metric="accuracy", time_limit=120,
            description="8 rows of 8 grey values to the digit's class")
