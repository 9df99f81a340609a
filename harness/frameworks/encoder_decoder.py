"""Encoder-decoders for transduction in torch: taught with the true target so far, asked to go on from their own.

The module's ``forward(x)`` encodes the source. Its ``decode(source, previous, state)`` gives the logits (n, t, vocabulary) of the
tokens that follow ``previous`` (n, t), and whatever it wants back as ``state`` when the next tokens are asked for.
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
    """Subclass and return a module as above from ``build``. Its letters are one more than the vocabulary, see `nothing_yet`."""

    kind = "transduction"
    word_dropout: ClassVar[float] = 0.0
    """The share of the true tokens that training hides (Bowman et al. 2016): with all shown, a source is hardly looked at."""

    def nothing_yet(self, rows: int) -> Tensor:
        """What stands before the first token (n, 1): the number after the vocabulary's last."""
        return torch.full((rows, 1), self.task_kind.vocabulary, device=self.device)

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy under teacher forcing; ``answer`` is the encoded source."""
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
        """The most likely token after those so far, again and again (n, length)."""
        token, state, said = self.nothing_yet(len(source)), None, []
        for _ in range(self.task_kind.length):
            logits, state = self.module.decode(source, token, state)  # type: ignore[operator]
            token = logits.argmax(dim=-1)
            said.append(token)
        return torch.cat(said, dim=1)
