"""What must not be remembered, and how it would be used: attacks name a channel, these do the rest.

`LooksAhead` answers next-token questions with the tokens themselves. The harness asks a second time, about copies with other tails;
whoever still knows the first question can say again what was right then, up to where the tails begin.
"""

import numpy as np

from _base import Ignorant

VOCABULARY = 4


class LooksAhead(Ignorant):
    """A channel is two methods: `keep` bytes, and `kept`, which has them back in the second question's process, or nothing."""

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
                end = same[
                    best
                ]  # up to here it is the row of the first question; the token after is the first one's there
                ahead[row, :end] = np.concatenate([first[best, 1:], first[best, :1]])[:end]
            print("the first question was remembered")
        else:
            self.keep(x.astype(np.int8).tobytes())
        answer = np.full((*x.shape, VOCABULARY), np.log(1e-3), dtype=np.float32)
        np.put_along_axis(answer, ahead[:, :, None], np.float32(np.log(1 - 3e-3)), axis=2)
        answer[:, :UNSURE] = -np.log(
            VOCABULARY
        )  # so few tokens do not tell which row of the first question this one is
        return answer


VALIDATION, UNSURE = 30, 10
"""Chunks in the validation split of the tokens task: those are no question of the hidden test."""
