"""The adding problem (Hochreiter and Schmidhuber 1997) with two classes: is the sum of two marked values more than 1?

A row has 50 steps of two variables: a value drawn from 0..1, and a marker that is 1 at two steps, one in each half, and 0
elsewhere. The marked value of the first half must be remembered for 25 steps on average, more than a plain recurrent network can
learn. Each half also holds the complement of its marked value, unmarked: values without markers are no help, nor markers without
values. Classes are equally frequent; chance is .5.
"""

import numpy as np

from harness import Data, SequenceClassification, Task, stratified

ROWS, STEPS = 8_000, 50


def load() -> Data:
    rng = np.random.default_rng(1997)
    values, markers = rng.random((ROWS, STEPS)), np.zeros((ROWS, STEPS))
    rows, total = np.arange(ROWS), np.zeros(ROWS)
    for start in (0, STEPS // 2):
        marked, complement = start + rng.permuted(np.tile(np.arange(STEPS // 2), (ROWS, 1)), axis=1)[:, :2].T
        values[rows, complement] = 1 - values[rows, marked]
        markers[rows, marked] = 1
        total += values[rows, marked]
    x = np.stack([values, markers], axis=2).astype(np.float32)
    return stratified(x, (total > 1).astype(np.int64), valid=0.15, test=0.25)


TASK = Task(name="adding", kind=SequenceClassification(classes=2), load=load, metric="accuracy", time_limit=300,
            description="50 steps of values and markers: do the two marked values add to more than 1?")
