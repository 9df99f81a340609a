"""Temporal convolutional network in Keras: causal, dilated convolutions with residual connections (Bai et al. 2018).

Dilations double from layer to layer until the last step sees the whole row, or 64 steps of it. Forecasts treat every
variable as a sequence of its own, read a season at a time.

Test accuracy .970 on digit-rows (5.1 s a fit), .871 on adding (58 s); test MSE 1.332 on sunspots (7.7 s); test nats 1.202 on
brackets (25 s): means of three seeds with the defaults, a fit on one thread of a 2-core x86 CPU. On sunspots it is worse than
the seasonal naive.
"""

import numpy as np

from harness import Categorical, Float, Split
from harness.frameworks.keras import KerasSubmission, keras

layers, ops = keras.layers, keras.ops


class TCN(KerasSubmission):
    kind = ("sequence-classification", "forecasting", "next-token")
    space = {"filters": Categorical((32, 64, 128)), "dropout": Float(0.0, 0.5), "learning_rate": Float(5e-4, 1e-2, log=True)}
    defaults = {"filters": 64, "dropout": 0.1, "learning_rate": 3e-3}

    def build(self, train: Split) -> keras.Model:
        kind, filters, shape = self.task_kind, self.params["filters"], train.x.shape[1:]
        if kind.name == "next-token":
            inputs = keras.Input(shape, dtype="int32")
            h = layers.Embedding(kind.vocabulary, filters)(inputs)
        elif kind.name == "forecasting":
            inputs = keras.Input(shape)
            whole = layers.Permute((2, 1))(inputs[:, shape[0] % kind.season:])
            h = ops.reshape(whole, (-1, shape[0] // kind.season, kind.season))
        else:
            h = inputs = keras.Input(shape)
        steps = h.shape[1]
        # Keras's loop costs milliseconds a step for any network: few rows get few steps.
        self.batch_size = min(max(4096 // steps, 16), 64)
        self.epochs = int(np.clip(130 * self.batch_size / len(train), 6, 40))
        h, reach = layers.Conv1D(filters, 1)(h), 1
        while reach < min(steps, 64):
            update = layers.Conv1D(filters, 3, padding="causal", dilation_rate=reach, activation="relu")(h)
            h = layers.LayerNormalization()(h + layers.Dropout(self.params["dropout"])(update))
            reach *= 2
        if kind.name == "next-token":
            return keras.Model(inputs, layers.Dense(kind.vocabulary, activation="softmax")(h))
        if kind.name == "forecasting":
            futures = ops.reshape(layers.Dense(kind.horizon)(h[:, -1]), (-1, shape[1], kind.horizon))
            return keras.Model(inputs, layers.Permute((2, 1))(futures))
        return keras.Model(inputs, layers.Dense(kind.classes, activation="softmax")(h[:, -1]))
