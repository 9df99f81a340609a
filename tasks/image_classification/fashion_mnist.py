"""Fashion-MNIST: grey pictures of clothes, 28 x 28, ten classes (Xiao, Rasul and Vollgraf 2017).

The test split is the official one; 5,000 of the 60,000 training images, 500 of each class, are kept for validation. Classes are
balanced, so accuracy ranks. Published: random forest .873, SVC .897, two convolutions .925, wide residual network .967.
"""

from harness import Data, ImageClassification, Task
from harness.datasets import fashion_mnist


def load() -> Data:
    return fashion_mnist()


TASK = Task(name="fashion-mnist", kind=ImageClassification(classes=10), load=load, metric="accuracy",
            description="28x28 grey pictures of clothes to their class")
