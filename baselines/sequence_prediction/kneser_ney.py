"""Interpolated modified Kneser-Ney n-grams (Chen and Goodman 1998), counted and asked in numpy alone.

The three discounts of each order come from its counts of counts. Contexts stay inside their chunk, in training as in
prediction: a chunk's first tokens are answered from the orders that their context is long enough for.

Test 1.522 nats on tiny-shakespeare with order 7; fit 0.3 s, predict 1.1 s. Counting all of
the first 90 % and asked about continuous text, as the published protocol has it, it scores 1.517.
Measured with the defaults on one thread of a busy 2-core x86 CPU, one seed.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from harness import Int, Split, Submission


class Level(NamedTuple):
    """What one order knows. An n-gram is one integer: its tokens as digits in base vocabulary, the oldest first."""

    contexts: np.ndarray  # sorted; everything below is aligned to it, or to the n-grams sorted by context
    backoff: np.ndarray   # probability that each context leaves to the order below
    first: np.ndarray     # where each context's n-grams start
    size: np.ndarray      # and how many they are
    tokens: np.ndarray    # last token of each n-gram
    shares: np.ndarray    # its discounted probability


class KneserNey(Submission):
    kind = "next-token"
    space = {"order": Int(3, 7)}
    defaults = {"order": 7}

    def fit(self, train: Split, valid: Split, report: Callable[[float], None]) -> None:
        self.vocabulary = int(self.task_kind.vocabulary)
        text = np.concatenate([train.x, train.labels[:, -1:]], axis=1)
        fits = int(63 / np.log2(self.vocabulary))  # more tokens than this do not go into an int64
        order = min(self.params["order"], text.shape[1], fits)
        digits = self.vocabulary ** np.arange(order - 1, -1, -1, dtype=np.int64)
        grams, counts = np.unique(sliding_window_view(text, order, axis=1) @ digits, return_counts=True)
        self.levels = [self.level(grams, counts)]
        for n in range(order - 1, 0, -1):
            # A lower order counts the different tokens seen before an n-gram, not how often it was seen.
            grams, counts = np.unique(grams % self.vocabulary**n, return_counts=True)
            self.levels.insert(0, self.level(grams, counts))

    def level(self, grams: np.ndarray, counts: np.ndarray) -> Level:
        once, twice, thrice, four = (max(int((counts == k).sum()), 1) for k in (1, 2, 3, 4))
        y = once / (once + 2 * twice)
        discounts = np.clip([1 - 2 * y * twice / once, 2 - 3 * y * thrice / twice, 3 - 4 * y * four / thrice], 0, [1, 2, 3])
        taken = discounts[np.minimum(counts, 3) - 1]
        contexts, first, size = np.unique(grams // self.vocabulary, return_index=True, return_counts=True)
        total = np.add.reduceat(counts, first)
        return Level(contexts, np.add.reduceat(taken, first) / total, first, size, grams % self.vocabulary,
                     (counts - taken) / np.repeat(total, size))

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.concatenate([self.answer(rows) for rows in np.array_split(x, len(x) // 64 + 1)])

    def answer(self, x: np.ndarray) -> np.ndarray:
        """Log-probabilities (n, t, vocabulary), from the shortest context to the longest."""
        p = np.full((x.size, self.vocabulary), 1 / self.vocabulary)
        context, rows = np.zeros_like(x), np.ones(x.shape, dtype=bool)
        for n, level in enumerate(self.levels):
            if n:  # the n-th token back joins the context, where the chunk reaches back that far
                context[:, n - 1:] += x[:, :x.shape[1] - n + 1] * self.vocabulary ** (n - 1)
                rows[:, :n - 1] = False
            at = np.minimum(np.searchsorted(level.contexts, context), len(level.contexts) - 1)
            seen = np.flatnonzero(rows & (level.contexts[at] == context))
            at = at.ravel()[seen]
            p[seen] *= level.backoff[at, None]
            size = level.size[at]
            grams = np.arange(size.sum()) + np.repeat(level.first[at] - np.cumsum(size) + size, size)
            p[np.repeat(seen, size), level.tokens[grams]] += level.shares[grams]
        return np.log(p, dtype=np.float64).astype(np.float32).reshape(*x.shape, -1)

    def n_parameters(self) -> int:
        return sum(len(level.tokens) + len(level.contexts) for level in self.levels)

    def summary(self) -> str:
        return "\n".join(f"order {n}: {len(level.tokens):,} n-grams" for n, level in enumerate(self.levels, 1))
