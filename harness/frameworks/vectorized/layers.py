"""Layers that `torch.func.vmap` cannot take as they are, in a form for stacks: dropout with a share for each member, and recurrent
cells.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.errors import Unsuited
from harness.frameworks.vectorized.recurrent_layers import Unrolled


def stand_in(module: nn.Module) -> nn.Module:
    """A copy in which such layers are replaced. Parameters keep their names."""
    module = copy.deepcopy(module)
    return replacement(module) or replaced_below(module)


def replaced_below(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        setattr(module, name, replacement(child) or replaced_below(child))
    return module


def replacement(layer: nn.Module) -> nn.Module | None:
    if isinstance(layer, Dropout):
        return Dropouts(layer.p)
    if type(layer) in (nn.RNN, nn.LSTM, nn.GRU):
        return Unrolled(layer)  # type: ignore[arg-type]
    if type(layer) is nn.Linear:
        layer.__class__ = OfRows
    return None


class OfRows(nn.Linear):
    """A linear layer that takes all but the last dimension as one: with stacked weights, and none of them asking for a gradient,
    torch would copy the weights once for each index of the first dimension."""

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.matmul(self.weight, x.reshape(-1, x.shape[-1]).T).T
        return (rows if self.bias is None else rows + self.bias).reshape(*x.shape[:-1], -1)


class Dropout(nn.Dropout):
    """Dropout that draws one uniform number for each of its inputs, whatever its share.

    So one draw serves a whole stack, and each member drops what it would drop alone.
    """

    def forward(self, x: Tensor) -> Tensor:
        return dropped(x, torch.rand(x.shape, device=x.device), self.p) if self.training else x

    def _get_name(self) -> str:
        return "Dropout"


def own_dropout(module: nn.Module) -> nn.Module:
    """The module, its dropout layers made ours."""
    for layer in module.modules():
        if type(layer) is nn.Dropout:
            layer.__class__ = Dropout
    return module


def dropped(x: Tensor, drawn: Tensor, share: Tensor | float) -> Tensor:
    """x where what was drawn from 0..1 is not below the share, scaled so that its mean stays; all of it dropped at a share of 1."""
    kept = (drawn >= share).to(x.dtype)
    rest = 1 - share
    return x * kept * (1 / rest.clamp(min=1e-12) if isinstance(rest, Tensor) else 1 / max(rest, 1e-12))


class Form(NamedTuple):
    """The shape of one member's input, and its axes from the slowest in memory to the fastest: what is multiplied with it had
    better lie as it does."""

    shape: torch.Size
    order: list[int]


class Dropouts(nn.Module):
    """Dropout with a share ``p`` for each member.

    Its masks may be drawn before a step, see `masks`: a hook into a vectorised forward pass is hundreds of calls in Python.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.register_buffer("p", torch.tensor(p))
        self.register_buffer("mask", torch.empty(0))
        self.name, self.met = "", list[tuple[str, Form]]()
        """Where it stands, and a list for all layers: who was given what where no mask was there."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        mask: Tensor = self.mask  # type: ignore[assignment]
        if mask.shape == x.shape:
            return x * mask
        self.met.append((self.name, Form(x.shape, sorted(range(x.dim()), key=lambda axis: -x.stride()[axis]))))
        return Masked.apply(x, self.p)  # type: ignore[no-any-return, no-untyped-call]


def masks(forms: Mapping[str, Form], shares: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """For each dropout layer, in their order, what its input of this form is multiplied with, (members, *shape)."""
    found = {}
    for name, (shape, order) in forms.items():
        share = shares[f"{name}.p"].float().view(-1, *[1] * len(shape))
        drawn = torch.rand(shape, device=share.device).permute(order).contiguous()
        kept = torch.empty(len(share), *drawn.shape, device=share.device)
        torch.ge(drawn, share, out=kept)  # as numbers at once: to convert them takes longer than to compare
        kept.mul_(1 / (1 - share).clamp(min=1e-12))
        found[f"{name}.mask"] = kept.permute(0, *(1 + order.index(axis) for axis in range(len(order))))
    return found


class Masked(torch.autograd.Function):
    """The hook at which a vectorised forward pass meets all members at once."""

    @staticmethod
    def forward(x: Tensor, p: Tensor) -> Tensor:
        raise Unsuited("a dropout layer is called outside of its stack")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        raise Unsuited("a dropout layer is called outside of its stack")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, p: Tensor) -> tuple[Tensor, int]:
        place = in_dims[0]
        if place is None:
            x, place = x[None], 0
        shape = [size for axis, size in enumerate(x.shape) if axis != place]
        drawn = torch.rand(shape, device=x.device).unsqueeze(place)
        return dropped(x, drawn, p.to(x.dtype).view([-1 if axis == place else 1 for axis in range(x.dim())])), place
