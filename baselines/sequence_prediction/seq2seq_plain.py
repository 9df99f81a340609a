"""Sequence to sequence without attention in torch (Cho et al. 2014): an image or tokens to tokens, through one vector.

A convolutional network (images) or a bidirectional GRU (tokens) encodes the whole source as one vector. From it a GRU writes the
target: it reads the true tokens so far in training (teacher forcing), its own most likely ones in prediction (greedy decoding).
All but attention is as in `seq2seq`, so that the two rows of a board show the gain from attention.

Test exact match .992 on digit-spelling (5.0 s a fit), .417 on dates (9.7 s): means of three seeds with the defaults, a fit on
one thread of a 2-core x86 CPU.
"""

from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, the name that torch's own documentation uses

from harness import Categorical, Float, Split
from harness.frameworks.encoder_decoder import EncoderDecoder


class Network(nn.Module):
    def __init__(self, kind: SimpleNamespace, channels: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.tokens = kind.source_vocabulary > 0
        if self.tokens:
            self.embedding = nn.Embedding(kind.source_vocabulary, hidden)
            self.encoder = nn.GRU(2 * hidden, hidden // 2, batch_first=True, bidirectional=True)
        else:
            self.encoder = nn.Sequential(nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                                         nn.Conv2d(32, hidden, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(4),
                                         nn.Flatten(), nn.Linear(16 * hidden, hidden))
        self.start = nn.Linear(hidden, hidden)
        self.letters = nn.Embedding(kind.vocabulary + 1, hidden)  # the last row is the start token
        self.decoder = nn.GRU(2 * hidden, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * hidden, hidden), nn.Tanh(), nn.Linear(hidden, kind.vocabulary))

    def forward(self, x: Tensor) -> Tensor:
        """Encode the source as one vector (n, hidden); for tokens it is the final state of both reading directions."""
        if not self.tokens:
            return self.encoder(x)
        return self.encoder(self.pairs(x))[1].transpose(0, 1).flatten(1)

    def pairs(self, x: Tensor) -> Tensor:
        """Embed tokens, two a step: half as many steps cost half as much."""
        embedded = self.embedding(x)
        return F.pad(embedded, (0, 0, 0, x.shape[1] % 2)).unflatten(1, (-1, 2)).flatten(2)

    def decode(self, source: Tensor, previous: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits (n, t, vocabulary) of the tokens after ``previous`` (n, t), and the state after them."""
        if state is None:
            state = self.start(source).tanh()[None]
        shown = source[:, None].expand(-1, previous.shape[1], -1)
        states, state = self.decoder(torch.cat([self.letters(previous), shown], dim=-1), state)
        return self.head(torch.cat([states, shown], dim=-1)), state


class Seq2SeqPlain(EncoderDecoder):
    kind = "transduction"
    space = {"hidden": Categorical((32, 64, 128)), "dropout": Float(0.0, 0.5), "learning_rate": Float(1e-3, 2e-2, log=True)}
    defaults = {"hidden": 64, "dropout": 0.2, "learning_rate": 1e-2}
    batch_size, word_dropout = 64, 0.5

    def build(self, train: Split) -> Network:
        self.epochs = int(np.clip(200 * self.batch_size / len(train), 6, 40))
        return Network(self.task_kind, train.x.shape[-1], self.params["hidden"], self.params["dropout"])
