"""Encoder-decoders for transduction in torch: trained with teacher forcing, decoded greedily.

The module's ``forward(x)`` encodes the source tokens, int64 (n, length). Its ``decode(source, previous, state)`` takes this encoded
source and the tokens ``previous``, int64 (n, t). It returns the logits (n, t, vocabulary) of the tokens that follow ``previous``,
and a state for the next call. The first call gets no state.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812, the name that torch's own documentation uses

from harness.contract import Array
from harness.frameworks.torch import TorchSubmission


class EncoderDecoder(TorchSubmission):
    """Base of encoder-decoders: return from ``build`` a module with ``forward(x)`` and ``decode(source, previous, state)``.

    ``forward`` encodes the source tokens; ``decode`` returns the logits of the next tokens and a state. The module's embedding of
    ``previous`` needs one token more than the vocabulary, see `nothing_yet`.
    """

    kind = "transduction"
    word_dropout: ClassVar[float] = 0.0
    """Share of the true tokens that training hides (Bowman et al. 2016). With all shown, a decoder hardly uses the source."""

    def nothing_yet(self, rows: int) -> Tensor:
        """Return the start token for each of ``rows`` rows, int64 (rows, 1): the number after the last of the vocabulary."""
        return torch.full((rows, 1), self.task_kind.vocabulary, device=self.device)

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """Return the mean cross-entropy under teacher forcing, a tensor ().

        ``answer`` is the encoded source, ``y`` holds the true tokens, int64 (n, length).
        """
        previous = torch.cat([self.nothing_yet(len(y)), y[:, :-1]], dim=1)
        if self.module.training and self.word_dropout:
            hidden = torch.rand(previous.shape, device=self.device) < self.word_dropout
            previous = previous.masked_fill(hidden, self.task_kind.vocabulary)
        logits, _ = self.module.decode(answer, previous)  # type: ignore[operator]
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())

    @torch.no_grad()
    def predict(self, x: Array) -> Array:
        return np.concatenate([self.greedy(source).cpu().numpy() for source in self.answers(x)])

    def greedy(self, source: Tensor) -> Tensor:
        """Return the tokens decoded from an encoded source, int64 (n, length): at each step the most likely one."""
        token, state, tokens = self.nothing_yet(len(source)), None, []
        for _ in range(self.task_kind.length):
            logits, state = self.module.decode(source, token, state)  # type: ignore[operator]
            token = logits.argmax(dim=-1)
            tokens.append(token)
        return torch.cat(tokens, dim=1)
