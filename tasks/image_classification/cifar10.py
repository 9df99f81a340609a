"""CIFAR-10: colour photographs of ten kinds of things, 32 x 32 (Krizhevsky 2009), from the official binary archive.

The test split is the official one; 5,000 of the 50,000 training images, 500 of each class, are kept for validation. Published:
airbench .94 in seconds on a GPU (Jordan 2024), ResNet-18 .96. About 3 % of the test images have near twins in the training set
(Barz and Denzler 2020), which flatters models that memorise.
"""

from harness import Data, ImageClassification, Task, stratified
from harness.datasets import fetch, read_cifar

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"


def load() -> Data:
    train, test = read_cifar(fetch("cifar10", URL, SHA256))
    fitting = stratified(train.x, train.labels, valid=0.1, test=0)
    return Data(fitting.train, fitting.valid, test)


TASK = Task(name="cifar10", kind=ImageClassification(classes=10), load=load, metric="accuracy",
            description="32x32 colour photographs to their class")
