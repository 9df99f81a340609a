"""Random changes of image batches (n, channels, height, width) float32, drawn for each image, for `TorchSubmission.augment`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812, the name that torch's own documentation uses


def shifted(x: Tensor, reach: int, mode: str = "constant") -> Tensor:
    """Return x with each image shifted by a random number of pixels, up to ``reach``, on both axes.

    New pixels are 0, or mirrored with ``mode="reflect"``.
    """
    if not reach:
        return x
    height, width = x.shape[2:]
    padded = F.pad(x, [reach] * 4, mode)
    down, right = torch.randint(2 * reach + 1, (2, len(x), 1), device=x.device)
    rows, columns = down + torch.arange(height, device=x.device), right + torch.arange(width, device=x.device)
    index = torch.arange(len(x), device=x.device)[:, None, None]
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def mirrored(x: Tensor) -> Tensor:
    """Return x with each image mirrored left to right with probability 0.5."""
    chosen = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    return torch.where(chosen, x.flip(3), x)


def cut_out(x: Tensor, side: int) -> Tensor:
    """Return x with a random square of ``side`` pixels set to 0 in each image (DeVries and Taylor 2017).

    The square may reach over the edge.
    """
    height, width = x.shape[2:]
    top, left = (torch.randint(size, (len(x), 1), device=x.device) - side // 2 for size in (height, width))
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    down, across = (rows >= top) & (rows < top + side), (columns >= left) & (columns < left + side)
    return x.masked_fill((down[:, :, None] & across[:, None, :])[:, None], 0.0)
