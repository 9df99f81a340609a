"""Decoder-only transformer (Radford et al. 2018) in torch: the next token from all tokens before it.

Layers are normalised first, positions enter by rotating queries and keys (Su et al. 2021), the feed-forward part is a squared ReLU
(So et al. 2021). Half of a layer's inputs come from the token before (the token shift of RWKV, Peng et al. 2023), so that a small
model learns its n-grams sooner. Training takes sequences of ``block`` tokens from random places in a chunk; prediction reads a
longer chunk in sequences that overlap by half, so that all tokens but a chunk's first have half a block of context at least.
Its size depends on the amount of text and on the device.

Test nats 1.148 on brackets (12 s a fit): means of three seeds with the defaults, a fit on one thread of a 2-core x86 CPU.
Larger data: 1.623 on tiny-shakespeare (210 s a fit, the machine busy), one seed, where nanoGPT's recipe for a CPU is published
with 1.88. The large size, for a GPU, has not been run.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, the name that torch's own documentation uses

from harness import Categorical, Float, Split
from harness.frameworks.torch import TorchSubmission


class Size(NamedTuple):
    width: int
    layers: int
    heads: int
    block: int  # tokens a training sequence
    batch: int  # tokens a batch
    tokens: float  # tokens seen in training, repetitions included
    dropout: float
    learning_rate: float
    weight_decay: float


SIZES = {
    "tiny": Size(64, 2, 4, 64, 1024, 2e5, 0.0, 6e-3, 0.1),
    "small": Size(96, 3, 4, 64, 2048, 1.9e6, 0.0, 4e-3, 1e-4),
    "large": Size(384, 6, 6, 256, 16384, 5e7, 0.25, 1e-3, 0.1),  # about nanoGPT's, for a GPU
}


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.before_attention, self.before_dense = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        n, t, width = x.shape
        parts = self.project(shifted(self.before_attention(x))).view(n, t, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(rotate(query, turn), rotate(key, turn), value, is_causal=True)
        x = x + self.dropout(self.merge(seen.transpose(1, 2).reshape(n, t, width)))
        return x + self.dropout(self.narrow(F.relu(self.widen(shifted(self.before_dense(x)))).square()))


def shifted(x: Tensor) -> Tensor:
    """Take the first half of the channels of x (n, t, width) from the token before."""
    now, before = x[..., x.shape[2] // 2 :], x[:, :-1, : x.shape[2] // 2]
    return torch.cat([F.pad(before, (0, 0, 1, 0)), now], dim=-1)


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    cosine, sine = turn
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], dim=-1).to(x.dtype)


class Network(nn.Module):
    def __init__(self, vocabulary: int, block: int, size: Size) -> None:
        super().__init__()
        self.block = block
        self.embedding = nn.Embedding(vocabulary, size.width)
        self.layers = nn.ModuleList(Layer(size.width, size.heads, size.dropout) for _ in range(size.layers))
        self.head = nn.Sequential(nn.LayerNorm(size.width), nn.Linear(size.width, vocabulary))
        half = size.width // size.heads // 2
        angles = torch.arange(block)[:, None] * 1000.0 ** (-torch.arange(half) / half)
        self.register_buffer("turn", torch.stack([angles.cos(), angles.sin()]))
        nn.init.normal_(self.embedding.weight, std=0.5)
        for layer in self.layers:
            for last in (layer.merge, layer.narrow):
                nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (n, t, vocabulary) from tokens (n, t) of any t."""
        t = x.shape[1]
        if t <= self.block:
            return self.read(x)
        half = self.block // 2
        pieces = F.pad(x, (0, -t % half)).unfold(1, self.block, half)
        logits = self.read(pieces.flatten(0, 1)).unflatten(0, pieces.shape[:2])
        return torch.cat([logits[:, 0, :half], logits[:, :, half:].flatten(1, 2)], dim=1)[:, :t]

    def read(self, x: Tensor) -> Tensor:
        turn, h = (self.turn[0, : x.shape[1]], self.turn[1, : x.shape[1]]), self.embedding(x)
        for layer in self.layers:
            h = layer(h, turn)
        return self.head(h)


class GPT(TorchSubmission):
    kind = "next-token"
    space = {"size": Categorical(("auto", *SIZES)), "rate": Float(0.3, 3.0, log=True)}
    defaults = {"size": "auto", "rate": 1.0}
    predict_batch = 16
    module: Network

    def build(self, train: Split) -> Network:
        fits = "tiny" if train.x.size < 500_000 else "large" if self.device.startswith("cuda") else "small"
        size = SIZES[fits if self.params["size"] == "auto" else self.params["size"]]
        length = train.x.shape[1]
        self.batch_size = max(size.batch // length, 1)
        self.epochs = max(round(size.tokens / train.x.size), 1)
        self.learning_rate, self.weight_decay = size.learning_rate * self.params["rate"], size.weight_decay
        return Network(self.task_kind.vocabulary, min(size.block, length), size)

    def batches(self, x: Tensor, y: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield sequences of ``block`` tokens from random places in each chunk, as many as fill it."""
        length, block = x.shape[1], self.module.block
        for rows, targets in super().batches(x, y, size):
            start = torch.randint(length - block + 1, (size * (length // block), 1), device=x.device)
            at = start + torch.arange(block, device=x.device)
            chunk = torch.arange(size, device=x.device).repeat(length // block)[:, None]
            yield rows[chunk, at], targets[chunk, at]
