"""MNIST: handwritten digits, 28 x 28, ten classes (LeCun, Bottou, Bengio and Haffner 1998).

The test split is the official one; 5,000 of the 60,000 training images, each class in its share, are kept for validation.
Published, LeNet-5: .9905. Error rates are so low that the test split separates few entries.
"""

from harness import Data, ImageClassification, Task
from harness.datasets import fetch_mnist

SOURCE = "https://ossci-datasets.s3.amazonaws.com/mnist/"
SHA256 = {  # of the decompressed files
    "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def load() -> Data:
    return fetch_mnist("mnist", SOURCE, SHA256)


TASK = Task(name="mnist", kind=ImageClassification(classes=10), load=load, metric="accuracy",
            description="28x28 grey handwritten digits to their class")
