"""Layers that `torch.func.vmap` cannot take, or takes slowly, in a form for stacks: dropout with a share for each member, products,
convolutions. Each is an `autograd.Function` whose vmap rule meets all members at once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.frameworks.stacked import Unsuited
from harness.frameworks.unrolled import Unrolled


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
    if type(layer) is nn.Linear:
        return Linears(layer)
    if (
        type(layer) is nn.Conv2d
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and isinstance(layer.padding, tuple)
    ):
        return Convolutions(layer)
    if type(layer) in (nn.RNN, nn.LSTM, nn.GRU):
        return Unrolled(layer)  # type: ignore[arg-type]
    return None


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


class Dropouts(nn.Module):
    """Dropout with a share ``p`` for each member."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.register_buffer("p", torch.tensor(p))

    def forward(self, x: Tensor) -> Tensor:
        return Masked.apply(x, self.p) if self.training else x  # type: ignore[no-untyped-call]


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


class Linears(nn.Module):
    """A linear layer that, where all members see the same input, multiplies it with all their weights in one go."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight = layer.weight
        self.register_parameter("bias", layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return Product.apply(x, self.weight, self.bias)  # type: ignore[no-any-return, no-untyped-call]


class Product(torch.autograd.Function):
    """Inputs (n, ..., in) times weights (out, in), plus a bias (out) or none."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        raise Unsuited("a linear layer is called outside of its stack")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        raise Unsuited("a linear layer is called outside of its stack")

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, int]:
        members, out, _ = weight.shape
        if in_dims[0] is None:
            y = nn.functional.linear(x, weight.flatten(0, 1), None if bias is None else bias.flatten())
            return y.view(*x.shape[:-1], members, out), x.dim() - 1
        x = x.movedim(in_dims[0], 0)
        product: Tensor = Each.apply(x.flatten(1, -2), weight, bias)  # type: ignore[no-untyped-call]
        return product.view(*x.shape[:-1], out), 0


class Each(torch.autograd.Function):
    """Rows (members, n, in) times weights (members, out, in): with a gradient for weights that is laid out as they are."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.biased = bias is not None
        turned = weight.transpose(1, 2)
        return torch.bmm(rows, turned) if bias is None else torch.baddbmm(bias[:, None], rows, turned)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        rows, weight = ctx.saved_tensors
        back = torch.bmm(gradient, weight) if ctx.needs_input_grad[0] else None
        return back, torch.bmm(gradient.transpose(1, 2), rows), gradient.sum(1) if ctx.biased else None


class Convolutions(nn.Module):
    """A convolution as a product of matrices: torch's own of many groups is slower than its groups one by one on a CPU."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.weight = layer.weight
        self.register_parameter("bias", layer.bias)  # type: ignore[arg-type]
        self.how = (layer.stride, layer.padding, layer.dilation)

    def forward(self, x: Tensor) -> Tensor:
        return Convolved.apply(x, self.weight, self.bias, *self.how)  # type: ignore[no-any-return, no-untyped-call]


class Convolved(torch.autograd.Function):
    """Images (n, channels, height, width) convolved with weights (out, channels, *kernel), plus a bias (out) or none."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, *how: tuple[int, int]) -> Tensor:
        raise Unsuited("a convolution is called outside of its stack")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        raise Unsuited("a convolution is called outside of its stack")

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        *how: tuple[int, int],
    ) -> tuple[Tensor, int]:
        members, out = weight.shape[:2]
        if weight.is_cuda:  # where all groups run at once
            rows = x.repeat(1, members, 1, 1) if in_dims[0] is None else x.movedim(in_dims[0], 1).flatten(1, 2)
            flat = None if bias is None else bias.flatten()
            y = nn.functional.conv2d(rows, weight.flatten(0, 1), flat, how[0], how[1], how[2], members)
            return y.view(len(y), members, out, *y.shape[2:]), 1
        planes = x[None] if in_dims[0] is None else x.movedim(in_dims[0], 0)
        y = Planes.apply(planes.transpose(1, 2), weight, *how)  # type: ignore[no-untyped-call]
        if bias is not None:
            y = y + bias[:, :, None, None, None]
        return y.transpose(1, 2), 0


class Planes(torch.autograd.Function):
    """Planes (members or 1, channels, n, height, width) convolved with weights (members, out, channels, *kernel)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
    ) -> Tensor:
        members, out, channels, *kernel = weight.shape
        sizes = [
            (size + 2 * pad - space * (side - 1) - 1) // step + 1
            for size, pad, space, side, step in zip(x.shape[3:], padding, dilation, kernel, stride)
        ]
        x = nn.functional.pad(x, (padding[1], padding[1], padding[0], padding[0]))
        columns = x.new_empty(len(x), channels, *kernel, x.shape[2], *sizes)
        for i, j, seen in places(kernel, sizes, stride, dilation):
            columns[:, :, i, j] = x[seen]
        columns = columns.view(len(x), -1, x.shape[2] * sizes[0] * sizes[1])
        ctx.save_for_backward(columns, weight)
        ctx.shape, ctx.sizes, ctx.how = x.shape, sizes, (stride, padding, dilation)
        flat = weight.view(members, out, -1)
        y = flat.flatten(0, 1) @ columns[0] if len(x) == 1 else torch.bmm(flat, columns)
        return y.view(members, out, x.shape[2], *sizes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:
        columns, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.how
        members, out, channels, *kernel = weight.shape
        rows = gradient.reshape(members, out, -1)
        if len(columns) == 1:
            moved = (rows.flatten(0, 1) @ columns[0].t()).view_as(weight)
        else:
            moved = torch.bmm(rows, columns.transpose(1, 2)).view_as(weight)
        if not ctx.needs_input_grad[0]:
            return None, moved, None, None, None
        back = torch.bmm(weight.view(members, out, -1).transpose(1, 2), rows)
        if len(columns) == 1:
            back = back.sum(0, keepdim=True)
        back = back.view(len(columns), channels, *kernel, ctx.shape[2], *ctx.sizes)
        x = gradient.new_zeros(ctx.shape)
        for i, j, seen in places(kernel, ctx.sizes, stride, dilation):
            x[seen] += back[:, :, i, j]
        height, width = x.shape[3:]
        return x[..., padding[0] : height - padding[0], padding[1] : width - padding[1]], moved, None, None, None


def places(
    kernel: Sequence[int], sizes: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
    """For each place of a kernel, the part of a padded plane that it meets."""
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            starts = (i * dilation[0], j * dilation[1])
            seen = [slice(at, at + step * (size - 1) + 1, step) for at, step, size in zip(starts, stride, sizes)]
            yield i, j, (..., *seen)
