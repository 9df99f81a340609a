"""Draw Fashion-MNIST: pictures of clothes for given classes, 28 x 28 (Xiao, Rasul and Vollgraf 2017).

Train and validation are the 60,000 training images, less 500 of each class for validation; the reference of every score is the
official test images. Fréchet distance in the features "fashion-v1" ranks; it is not comparable with any published FID.
"""

from harness import Data, ImageGeneration, Split, Task
from harness.datasets import fetch_mnist

SOURCE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
SHA256 = {  # of the decompressed files
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def load() -> Data:
    data = fetch_mnist("fashion-mnist", SOURCE, SHA256)
    return Data(*(Split(part.labels, part.x) for part in (data.train, data.valid, data.test)))


TASK = Task(name="fashion-images", kind=ImageGeneration(height=28, width=28, channels=1, classes=10, features="fashion-v1"),
            load=load, metric="frechet_distance", description="28x28 grey pictures of clothes, drawn for given classes")
