"""Fashion-MNIST: grey pictures of clothes, 28 x 28, ten classes (Xiao, Rasul and Vollgraf 2017).

The test split is the official one; 5,000 of the 60,000 training images, 500 of each class, are kept for validation. Classes are
balanced, so accuracy ranks. Published: random forest .873, SVC .897, two convolutions .925, wide residual network .967.
"""

from harness import Data, ImageClassification, Task
from harness.datasets import fetch_mnist

SOURCE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
SHA256 = {  # of the decompressed files
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def load() -> Data:
    return fetch_mnist("fashion-mnist", SOURCE, SHA256)


TASK = Task(name="fashion-mnist", kind=ImageClassification(classes=10), load=load, metric="accuracy",
            description="28x28 grey pictures of clothes to their class")
