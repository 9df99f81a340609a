"""Layers that `torch.func.vmap` can vectorize: dropout with a rate for each member, linear layers and recurrent layers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.errors import NotVectorizable
from harness.frameworks.vectorized.recurrent_layers import UnrolledRNN


def vectorizable_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a module in which layers that cannot be vectorized are replaced. Parameters keep their names."""
    module = copy.deepcopy(module)
    return vectorized_layer(module) or replace_children(module)


def replace_children(module: nn.Module) -> nn.Module:
    """Replace the layers of a module that cannot be vectorized, at any depth, in place; return the module."""
    for name, child in module.named_children():
        setattr(module, name, vectorized_layer(child) or replace_children(child))
    return module


def vectorized_layer(layer: nn.Module) -> nn.Module | None:
    """Return a vectorizable layer to put in place of ``layer``, or None if ``layer`` stays. A linear layer is changed in place."""
    if isinstance(layer, Dropout):
        return VectorizedDropout(layer.p)
    if type(layer) in (nn.RNN, nn.LSTM, nn.GRU):
        return UnrolledRNN(layer)  # type: ignore[arg-type]
    if type(layer) is nn.Linear:
        layer.__class__ = VectorizedLinear
    return None


class VectorizedLinear(nn.Linear):
    """Linear layer that computes one matrix product over all rows of its input.

    With stacked weights that require no gradient, the product of torch's own layer would copy the weights once for each index of
    the input's first dimension.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (..., out_features) of inputs (..., in_features)."""
        rows = torch.matmul(self.weight, x.reshape(-1, x.shape[-1]).T).T
        return (rows if self.bias is None else rows + self.bias).reshape(*x.shape[:-1], -1)


class Dropout(nn.Dropout):
    """Dropout layer that draws one uniform number for each element of its input, whatever its rate.

    So all members of a vectorized fit can share one draw, and each drops the same elements as in a single fit.
    """

    def forward(self, x: Tensor) -> Tensor:
        return drop(x, torch.rand(x.shape, device=x.device), self.p) if self.training else x

    def _get_name(self) -> str:
        return "Dropout"


def replace_dropout(module: nn.Module) -> nn.Module:
    """Turn the dropout layers of a module into `Dropout`, in place; return the module."""
    for layer in module.modules():
        if type(layer) is nn.Dropout:
            layer.__class__ = Dropout
    return module


def drop(x: Tensor, uniform: Tensor, rate: Tensor | float) -> Tensor:
    """Return x with elements set to 0 where ``uniform`` is below the rate, and the others scaled so that the mean stays.

    ``uniform`` has the shape of x and values in [0, 1). A rate of 1 drops all elements.
    """
    kept = (uniform >= rate).to(x.dtype)
    keep_rate = 1 - rate
    scale = 1 / keep_rate.clamp(min=1e-12) if isinstance(keep_rate, Tensor) else 1 / max(keep_rate, 1e-12)
    return x * kept * scale


class InputLayout(NamedTuple):
    """Shape of one member's input to a dropout layer, and its axes from the slowest in memory to the fastest. A product with a mask
    is fastest if the mask has the same layout."""

    shape: torch.Size
    order: list[int]


class VectorizedDropout(nn.Module):
    """Dropout layer whose rate ``p`` can differ between the members of a vectorized fit.

    Its mask can be set before a step, see `draw_masks`. Without a mask it calls `VectorizedDrop`, which costs hundreds of calls in
    Python.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.register_buffer("p", torch.tensor(p))
        self.register_buffer("mask", torch.empty(0))
        self.name = ""
        self.unmasked = list[tuple[str, InputLayout]]()
        """List shared by all layers of a module: each adds its name and its input's layout when it is called without a mask."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        mask: Tensor = self.mask  # type: ignore[assignment]
        if mask.shape == x.shape:
            return x * mask
        layout = InputLayout(x.shape, sorted(range(x.dim()), key=lambda axis: -x.stride()[axis]))
        self.unmasked.append((self.name, layout))
        return VectorizedDrop.apply(x, self.p)  # type: ignore[no-any-return, no-untyped-call]


def draw_masks(layouts: Mapping[str, InputLayout], rates: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Draw a dropout mask for each layer in ``layouts``, in this order; return them by name, as ``layer.mask``.

    A mask, float32 (members, *shape), holds the factors of the layer's inputs: 0, or 1 / (1 - rate). ``rates`` holds the rates of
    each layer, (members,), as ``layer.p``.
    """
    masks = {}
    for name, (shape, order) in layouts.items():
        rate = rates[f"{name}.p"].float().view(-1, *[1] * len(shape))
        uniform = torch.rand(shape, device=rate.device).permute(order).contiguous()
        mask = torch.empty(len(rate), *uniform.shape, device=rate.device)
        torch.ge(uniform, rate, out=mask)  # straight into floats: a conversion takes longer than the comparison
        mask.mul_(1 / (1 - rate).clamp(min=1e-12))
        masks[f"{name}.mask"] = mask.permute(0, *(1 + order.index(axis) for axis in range(len(order))))
    return masks


class VectorizedDrop(torch.autograd.Function):
    """Function that applies dropout to all members at once, inside a vectorized forward pass. Elsewhere it raises
    NotVectorizable."""

    @staticmethod
    def forward(x: Tensor, p: Tensor) -> Tensor:
        raise NotVectorizable("a dropout layer is called outside of its stack")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        raise NotVectorizable("a dropout layer is called outside of its stack")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, p: Tensor) -> tuple[Tensor, int]:
        """Return the input after dropout, and the number of its members' axis.

        ``in_dims[0]`` is the members' axis of ``x``, None if all members share x. ``p`` holds the rates, (members,).
        """
        members = in_dims[0]
        if members is None:
            x, members = x[None], 0
        shape = [size for axis, size in enumerate(x.shape) if axis != members]
        uniform = torch.rand(shape, device=x.device).unsqueeze(members)
        rate = p.to(x.dtype).view([-1 if axis == members else 1 for axis in range(x.dim())])
        return drop(x, uniform, rate), members
