"""Random changes of image batches (n, channels, height, width), each image by itself: what `TorchSubmission.augment` is made of."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812, the name that torch's own documentation uses


def shifted(x: Tensor, reach: int, mode: str = "constant") -> Tensor:
    """Moved by up to ``reach`` pixels both ways; what comes in at the edge is 0, or the image's mirror ("reflect")."""
    if not reach:
        return x
    height, width = x.shape[2:]
    padded = F.pad(x, [reach] * 4, mode)
    down, right = torch.randint(2 * reach + 1, (2, len(x), 1), device=x.device)
    rows, columns = down + torch.arange(height, device=x.device), right + torch.arange(width, device=x.device)
    index = torch.arange(len(x), device=x.device)[:, None, None]
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def mirrored(x: Tensor) -> Tensor:
    """Half of them turned left to right."""
    chosen = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    return torch.where(chosen, x.flip(3), x)


def cut_out(x: Tensor, side: int) -> Tensor:
    """A square of ``side`` pixels set to 0 (DeVries and Taylor 2017); at the edge it may hang over."""
    height, width = x.shape[2:]
    top, left = (torch.randint(size, (len(x), 1), device=x.device) - side // 2 for size in (height, width))
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    down, across = (rows >= top) & (rows < top + side), (columns >= left) & (columns < left + side)
    return x.masked_fill((down[:, :, None] & across[:, None, :])[:, None], 0.0)
