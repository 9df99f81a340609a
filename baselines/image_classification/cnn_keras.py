"""The classic small convolutional network, Keras: convolutions of 32, 64 and 64 filters with max pooling, a dense layer of 64.

The network of Chollet's "Deep Learning with Python" (2017), with dropout; a pooling is left out where the map is too small.

Test accuracy .987 on digits (25 s a fit), .779 on digits-40 (11 s): means of three seeds with the defaults, a fit on one thread
of a busy 2-core x86 CPU. Not measured on fashion-mnist, where a fit takes more than 7 CPU minutes.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
from keras import layers

from harness import Float, Split
from harness.frameworks.arrays import default_epochs
from harness.frameworks.keras import KerasSubmission

SMALLEST = 8  # side in pixels of the smallest feature map that is pooled


class CNNKeras(KerasSubmission):
    kind = "image-classification"
    space = {"learning_rate": Float(3e-4, 1e-2, log=True), "dropout": Float(0.0, 0.5)}
    defaults = {"learning_rate": 5e-3, "dropout": 0.3}

    def build(self, train: Split) -> keras.Model:
        self.epochs = min(max(12, 2_400 // len(train)), default_epochs(len(train)))
        images = x = keras.Input(train.x.shape[1:])
        for filters in (32, 64, 64):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
            if min(x.shape[1:3]) >= SMALLEST:
                x = layers.MaxPooling2D()(x)
        x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
        x = layers.Dropout(self.params["dropout"], seed=self.seed)(x)
        return keras.Model(images, layers.Dense(self.task_kind.classes, activation="softmax")(x))
