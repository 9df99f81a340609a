"""Draw horses: the 5,000 training and 1,000 test photographs of one class of CIFAR-10, 32 x 32 in colour (Krizhevsky 2009).

There is one class, so every input is 0 and an entry answers each with a different horse. Fréchet distance in the features
"cifar10-v1" ranks; it is not comparable with any published FID. A thousand references are few: compare scores with the floor
beside the board.
"""

import numpy as np

from harness import Data, ImageGeneration, Split, Task, stratified
from harness.datasets import cifar10

HORSE = 7


def load() -> Data:
    train, test = cifar10()
    horses, hidden = train.x[train.labels == HORSE], test.x[test.labels == HORSE]
    fitting = stratified(horses, np.zeros(len(horses), dtype=np.int64), valid=0.1, test=0)
    return Data(Split(fitting.train.labels, fitting.train.x), Split(fitting.valid.labels, fitting.valid.x),
                Split(np.zeros(len(hidden), dtype=np.int64), hidden))


TASK = Task(name="cifar10-horses", kind=ImageGeneration(height=32, width=32, channels=3, classes=1, features="cifar10-v1"),
            load=load, metric="frechet_distance", description="32x32 colour photographs of horses, drawn")
