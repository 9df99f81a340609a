"""Layers that `torch.func.vmap` cannot take, in a form that it can: dropout with a share for each member, and recurrent cells."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from harness.frameworks.stacked import Unsuited


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


class Unrolled(nn.Module):
    """A recurrent layer a step at a time, its parameters those of torch's own (names and shapes)."""

    def __init__(self, cell: nn.RNNBase) -> None:
        super().__init__()
        if cell.bidirectional or cell.proj_size or (cell.dropout and cell.num_layers > 1):
            raise Unsuited(
                "recurrent layers in both directions, projected or with dropout between them are fitted alone"
            )
        self.mode, self.layers, self.batch_first, self.bias = cell.mode, cell.num_layers, cell.batch_first, cell.bias
        for name, weight in cell.named_parameters():
            self.register_parameter(name, weight)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """As torch's: outputs (n, t, hidden) and the last states (layers, n, hidden), a pair of them for an LSTM."""
        steps = x.transpose(0, 1) if self.batch_first else x
        first = None if state is None else (state if self.mode == "LSTM" else (state,))
        ends: list[tuple[Tensor, ...]] = []
        for layer in range(self.layers):
            start = None if first is None else tuple(part[layer] for part in first)
            steps, end = self.layer(steps, layer, start)
            ends.append(end)
        last = tuple(torch.stack(parts) for parts in zip(*ends))
        return steps.transpose(0, 1) if self.batch_first else steps, last if self.mode == "LSTM" else last[0]

    def layer(self, steps: Tensor, number: int, start: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        from_input, from_state = getattr(self, f"weight_ih_l{number}"), getattr(self, f"weight_hh_l{number}").t()
        given = steps @ from_input.t()
        recurrent_bias = None
        if self.bias:
            given = given + getattr(self, f"bias_ih_l{number}")
            recurrent_bias = getattr(self, f"bias_hh_l{number}")
            if self.mode != "GRU":  # whose new state sees the recurrent part behind a gate
                given = given + recurrent_bias
        if start is None:
            zeros = given.new_zeros(given.shape[1], from_state.shape[0])
            start = (zeros, zeros) if self.mode == "LSTM" else (zeros,)
        state, out = start, []
        for step in given.unbind(0):
            state = self.step(step, state, from_state, recurrent_bias)
            out.append(state[0])
        return torch.stack(out), state

    def step(self, given: Tensor, state: tuple[Tensor, ...], weight: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
        hidden = state[0]
        if self.mode == "LSTM":
            into, forget, new, out = (given + hidden @ weight).chunk(4, dim=-1)
            memory = forget.sigmoid() * state[1] + into.sigmoid() * new.tanh()
            return out.sigmoid() * memory.tanh(), memory
        if self.mode == "GRU":
            recurrent = hidden @ weight if bias is None else hidden @ weight + bias
            reset, update, new = given.chunk(3, dim=-1)
            reset_too, update_too, new_too = recurrent.chunk(3, dim=-1)
            candidate = (new + (reset + reset_too).sigmoid() * new_too).tanh()
            share = (update + update_too).sigmoid()
            return ((1 - share) * candidate + share * hidden,)
        sum_ = given + hidden @ weight
        return (sum_.tanh() if self.mode == "RNN_TANH" else sum_.relu(),)
