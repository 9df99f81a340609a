"""Nested brackets of three kinds, character by character, generated from a fixed seed: text whose entropy is known exactly.

A chunk starts outside of all brackets. An opening bracket is of each kind with equal probability; a closing one has the kind of the
last bracket that is still open. After an opening bracket the next one opens with probability 3/4, after a closing one it closes
with probability 3/4; it always opens at depth 0, and always closes at depth `DEEPEST`. A model that keeps the stack scores
`entropy`, 1.0364 nats a character, and less only by luck. A model without the stack must guess the kind of
brackets opened before its context. The true probabilities score 1.0404 nats on this test split.
"""

import numpy as np

from harness import Data, NextToken, Split, Task

ALPHABET = "([{)]}"
KINDS = len(ALPHABET) // 2
GOES_ON, DEEPEST, LENGTH = 0.75, 6, 64
SIZES = {"train": 800, "valid": 200, "test": 500}


def opens(depth: np.ndarray, opened: np.ndarray) -> np.ndarray:
    """Probability that the next bracket opens, given the depth and whether the last one opened."""
    p = np.where(opened, GOES_ON, 1 - GOES_ON)
    return np.where(depth == 0, 1.0, np.where(depth == DEEPEST, 0.0, p))


def entropy() -> float:
    """Expected loss of the best possible answer in nats a character: the mean over positions 1 to LENGTH of a chunk."""
    depth, opened = np.meshgrid(np.arange(DEEPEST + 1), [False, True], indexing="ij")
    p = opens(depth, opened)
    nats = -(p * np.log(np.maximum(p, 1e-300) / KINDS) + (1 - p) * np.log(np.maximum(1 - p, 1e-300)))
    share = np.where((depth == 1) & opened, 1.0, 0.0)  # after the first bracket, which the entry sees
    total = 0.0
    for _ in range(LENGTH):
        total += float((share * nats).sum())
        following = np.zeros_like(share)
        following[1:, 1] = (share * p).sum(axis=1)[:-1]
        following[:-1, 0] = (share * (1 - p)).sum(axis=1)[1:]
        share = following
    return total / LENGTH


def load() -> Data:
    rng = np.random.default_rng(7)
    n = sum(SIZES.values())
    text = np.empty((n, LENGTH + 1), dtype=np.int64)
    stack, depth, opened, rows = np.zeros((n, DEEPEST), dtype=np.int64), np.zeros(n, dtype=np.int64), np.ones(n, bool), np.arange(n)
    for t in range(LENGTH + 1):
        opened = rng.random(n) < opens(depth, opened)
        depth -= ~opened
        top = np.minimum(depth, DEEPEST - 1)
        stack[rows, top] = np.where(opened, rng.integers(KINDS, size=n), stack[rows, top])
        text[:, t] = np.where(opened, 0, KINDS) + stack[rows, top]
        depth += opened
    parts = np.split(text, np.cumsum(list(SIZES.values()))[:-1])
    return Data(*(Split(part[:, :-1], part[:, 1:]) for part in parts))


TASK = Task(name="brackets", kind=NextToken(vocabulary=len(ALPHABET), alphabet=ALPHABET), load=load, metric="nats", time_limit=300,
            description=f"nested brackets, character by character; no answer can be expected below {entropy():.4f} nats")
