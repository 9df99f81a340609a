"""Tiny Shakespeare (Karpathy 2015): the next of 65 characters, at every position of chunks of 1024.

Test is the last 10 % of the characters, the split that nanoGPT and others publish as their validation split. Valid is the
first 5 % of the rest: the text right before test is in part the same play, and published figures learn from it. (With valid
there, order-7 Kneser-Ney scored 1.690 nats on chunks of 256, and 1.533 with valid at the start.) Chunks do not overlap and each
is predicted by itself, so that its first characters have little context; the rest after the last whole chunk is left out.
"""

import numpy as np

from harness import Data, DataError, NextToken, Split, Task
from harness.datasets import fetch

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
ALPHABET = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
CHUNK = 1024


def chunks(tokens: np.ndarray) -> Split:
    """Cut tokens into chunks x (n, CHUNK) without overlap; y is x moved by one character."""
    n = (len(tokens) - 1) // CHUNK
    return Split(tokens[:n * CHUNK].reshape(n, CHUNK), tokens[1:n * CHUNK + 1].reshape(n, CHUNK))


def load() -> Data:
    text = fetch("tinyshakespeare", URL, SHA256).read_text()
    if "".join(sorted(set(text))) != ALPHABET:
        raise DataError("the characters of Tiny Shakespeare are not those of ALPHABET")
    tokens = np.searchsorted(list(ALPHABET), list(text)).astype(np.int64)
    published = int(0.9 * len(tokens))
    valid, train, test = np.split(tokens, [int(0.05 * published), published])
    return Data(chunks(train), chunks(valid), chunks(test))


TASK = Task(name="tiny-shakespeare", kind=NextToken(vocabulary=len(ALPHABET), alphabet=ALPHABET), load=load, metric="nats",
            description="Shakespeare's plays, character by character")
