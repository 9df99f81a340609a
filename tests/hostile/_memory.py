"""Base class of attacks that remember test inputs between processes; each attack adds a channel.

`LooksAhead` predicts next tokens from the tokens themselves. The harness sends a second query, copies with other tails. An attack
that remembers the first query can repeat its answers up to the start of the tails.
"""

import numpy as np

from _base import Ignorant

VOCABULARY = 4


class LooksAhead(Ignorant):
    """Lookahead attack over a channel: `keep` stores bytes, `kept` returns them in the process of the second query, or nothing."""

    kind = "next-token"

    def keep(self, content):
        raise NotImplementedError

    def kept(self):
        raise NotImplementedError

    def predict(self, x):
        if len(x) == VALIDATION:
            return np.full((*x.shape, VOCABULARY), -np.log(VOCABULARY), dtype=np.float32)
        ahead = np.concatenate([x[:, 1:], x[:, :1]], axis=1)
        content = self.kept()
        if content:
            first = np.frombuffer(content, np.int8).reshape(x.shape).astype(np.int64)
            for row, tokens in enumerate(x):
                same = (first == tokens).cumprod(axis=1).sum(axis=1)
                best = int(same.argmax())
                # Up to here it is the row of the first query, so the next token is taken from there.
                end = same[best]
                ahead[row, :end] = np.concatenate([first[best, 1:], first[best, :1]])[:end]
            print("the first query was remembered")
        else:
            self.keep(x.astype(np.int8).tobytes())
        answer = np.full((*x.shape, VOCABULARY), np.log(1e-3), dtype=np.float32)
        np.put_along_axis(answer, ahead[:, :, None], np.float32(np.log(1 - 3e-3)), axis=2)
        # So few tokens do not identify the row of the first query.
        answer[:, :UNSURE] = -np.log(VOCABULARY)
        return answer


VALIDATION, UNSURE = 30, 10
"""Chunks in the validation split of the tokens task, to tell it from the test split; first positions answered uniformly."""
