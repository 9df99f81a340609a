"""Encoder and one softmax per position in Keras: an image or a token sequence to all of its target tokens at once.

The encoding has one state per position. The softmaxes share their weights and do not see each other's letters.

Test exact match .953 on digit-spelling (5.0 s a fit), .007 on dates (5.4 s): means of three seeds with the defaults, a fit on
one thread of a 2-core x86 CPU.
"""

import numpy as np

from harness import Categorical, Float, Split
from harness.frameworks.keras import KerasSubmission, keras

layers = keras.layers


class SpellKeras(KerasSubmission):
    kind = "transduction"
    space = {"width": Categorical((64, 128, 256)), "dropout": Float(0.0, 0.5), "learning_rate": Float(5e-4, 1e-2, log=True)}
    defaults = {"width": 128, "dropout": 0.2, "learning_rate": 3e-3}

    def build(self, train: Split) -> keras.Model:
        kind, width, shape = self.task_kind, self.params["width"], train.x.shape[1:]
        if kind.source_vocabulary:
            inputs = keras.Input(shape, dtype="int32")
            h = layers.Embedding(kind.source_vocabulary, 32)(inputs)
            h = layers.Conv1D(64, 3, padding="same", activation="relu")(h)
        else:
            inputs = keras.Input(shape)
            h = layers.MaxPooling2D()(layers.Conv2D(32, 3, padding="same", activation="relu")(inputs))
            h = layers.Conv2D(64, 3, padding="same", activation="relu")(h)
        # Keras's loop costs milliseconds a step for any network: few rows get few steps.
        self.batch_size, self.epochs = 64, int(np.clip(160 * 64 / len(train), 4, 40))
        h = layers.Dropout(self.params["dropout"])(layers.Dense(width, activation="relu")(layers.Flatten()(h)))
        h = layers.Reshape((kind.length, 32))(layers.Dense(kind.length * 32, activation="relu")(h))
        return keras.Model(inputs, layers.Dense(kind.vocabulary, activation="softmax")(h))
