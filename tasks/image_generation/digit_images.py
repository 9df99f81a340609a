"""Draw handwritten digits, 8 x 8 pixels, for given classes: scikit-learn's 1,797 (Alpaydin and Kaynak 1998), split as `digits` is.

Fréchet distance in the features "digits-v1" ranks; it is not comparable with any published FID.
"""

import numpy as np

from harness import Data, ImageGeneration, Split, Task, stratified
from harness.datasets import digits


def load() -> Data:
    images, labels = digits()
    images = np.round(images * 255 / 16).astype(np.uint8)[..., None]
    data = stratified(images, labels, valid=0.2, test=0.3)
    return Data(*(Split(part.labels, part.x) for part in (data.train, data.valid, data.test)))


TASK = Task(name="digit-images", kind=ImageGeneration(height=8, width=8, channels=1, classes=10, features="digits-v1"), load=load,
            metric="frechet_distance", time_limit=120, description="8x8 grey digits, drawn for given classes")
