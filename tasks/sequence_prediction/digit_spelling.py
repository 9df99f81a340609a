"""Handwritten digits, 8 x 8 pixels (Alpaydin and Kaynak 1998, scikit-learn), to the letters of their English names.

The images and split of `digits`. A name counts only when all its letters and the padding behind them are right, so a model
that predicts each letter by itself loses on every "fivn".
"""

import numpy as np

from harness import Data, Task, Transduction, stratified
from harness.datasets import digits

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LENGTH = max(map(len, NAMES))
PAD = "·"
ALPHABET = PAD + "".join(sorted(set("".join(NAMES))))


def load() -> Data:
    images, labels = digits()
    images = np.round(images * 255 / 16).astype(np.uint8)[..., None]
    spelled = np.array([[ALPHABET.index(letter) for letter in name.ljust(LENGTH, PAD)] for name in NAMES], dtype=np.int64)
    return stratified(images, spelled[labels], by=labels, valid=0.2, test=0.3)


TASK = Task(name="digit-spelling", kind=Transduction(vocabulary=len(ALPHABET), length=LENGTH, alphabet=ALPHABET), load=load,
            metric="exact_match", time_limit=120, description="8x8 grey digits to the letters of their names")
