"""Recurrent layers a step at a time, for stacks: torch's own are one operation that cannot be vectorised."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import Unsuited


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
