"""CIFAR-10: colour photographs of ten kinds of things, 32 x 32 (Krizhevsky 2009), from the official binary archive.

The test split is the official one; 5,000 of the 50,000 training images, 500 of each class, are kept for validation. Published:
airbench .94 in seconds on a GPU (Jordan 2024), ResNet-18 .96. About 3 % of the test images have near twins in the training set
(Barz and Denzler 2020), which flatters models that memorise.
"""

from harness import Data, ImageClassification, Task, stratified
from harness.datasets import cifar10


def load() -> Data:
    train, test = cifar10()
    fitting = stratified(train.x, train.labels, valid=0.1, test=0)
    return Data(fitting.train, fitting.valid, test)


TASK = Task(name="cifar10", kind=ImageClassification(classes=10), load=load, metric="accuracy",
            description="32x32 colour photographs to their class")
