"""Draw Fashion-MNIST: pictures of clothes for given classes, 28 x 28 (Xiao, Rasul and Vollgraf 2017).

Train and validation are the 60,000 training images, less 500 of each class for validation; the reference of every score is the
official test images. Fréchet distance in the features "fashion-v1" ranks; it is not comparable with any published FID.
"""

from harness import Data, ImageGeneration, Split, Task
from harness.datasets import fashion_mnist


def load() -> Data:
    data = fashion_mnist()
    return Data(*(Split(part.labels, part.x) for part in (data.train, data.valid, data.test)))


TASK = Task(name="fashion-images", kind=ImageGeneration(height=28, width=28, channels=1, classes=10, features="fashion-v1"),
            load=load, metric="frechet_distance", description="28x28 grey pictures of clothes, drawn for given classes")
