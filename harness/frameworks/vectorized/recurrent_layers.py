"""Recurrent layers as one operation a time step. Torch computes a whole layer in one operation, which cannot be vectorized."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import NotVectorizable


class UnrolledRNN(nn.Module):
    """RNN, LSTM or GRU that computes one time step after the other, with the weights of a layer of torch and their names.

    Raises NotVectorizable for a layer that is bidirectional, has projections or has dropout between its layers.
    """

    def __init__(self, rnn: nn.RNNBase) -> None:
        super().__init__()
        if rnn.bidirectional or rnn.proj_size or (rnn.dropout and rnn.num_layers > 1):
            raise NotVectorizable(
                "recurrent layers in both directions, projected or with dropout between them are fitted alone"
            )
        self.mode, self.layers, self.batch_first, self.bias = rnn.mode, rnn.num_layers, rnn.batch_first, rnn.bias
        for name, weight in rnn.named_parameters():
            self.register_parameter(name, weight)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return outputs (n, t, hidden) and last states (layers, n, hidden), a pair of states for an LSTM, as torch does.

        ``x`` is (n, t, width). Without ``batch_first``, n and t change places in inputs and outputs.
        """
        steps = x.transpose(0, 1) if self.batch_first else x
        first = None if state is None else (state if self.mode == "LSTM" else (state,))
        last_states: list[tuple[Tensor, ...]] = []
        for layer in range(self.layers):
            start = None if first is None else tuple(part[layer] for part in first)
            steps, last_state = self.layer(steps, layer, start)
            last_states.append(last_state)
        last = tuple(torch.stack(parts) for parts in zip(*last_states))
        return steps.transpose(0, 1) if self.batch_first else steps, last if self.mode == "LSTM" else last[0]

    def layer(self, steps: Tensor, number: int, start: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return outputs (t, n, hidden) and last state of layer ``number``. ``steps`` are (t, n, width); ``start`` None means
        zeros.

        The last state is a tuple of parts (n, hidden): two for an LSTM, else one.
        """
        from_input, from_state = getattr(self, f"weight_ih_l{number}"), getattr(self, f"weight_hh_l{number}").t()
        inputs = steps @ from_input.t()
        recurrent_bias = None
        if self.bias:
            inputs = inputs + getattr(self, f"bias_ih_l{number}")
            recurrent_bias = getattr(self, f"bias_hh_l{number}")
            if self.mode != "GRU":  # a GRU's reset gate scales the recurrent part with its bias
                inputs = inputs + recurrent_bias
        if start is None:
            zeros = inputs.new_zeros(inputs.shape[1], from_state.shape[0])
            start = (zeros, zeros) if self.mode == "LSTM" else (zeros,)
        state, outputs = start, []
        for step_inputs in inputs.unbind(0):
            state = self.step(step_inputs, state, from_state, recurrent_bias)
            outputs.append(state[0])
        return torch.stack(outputs), state

    def step(
        self, inputs: Tensor, state: tuple[Tensor, ...], weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Return the state after one time step, each part (n, hidden).

        ``inputs`` are (n, gates * hidden), already multiplied by their weights; ``weight``, (hidden, gates * hidden), and ``bias``
        apply to the last state. Only a GRU uses ``bias``.
        """
        hidden = state[0]
        if self.mode == "LSTM":
            into, forget, new, out = (inputs + hidden @ weight).chunk(4, dim=-1)
            memory = forget.sigmoid() * state[1] + into.sigmoid() * new.tanh()
            return out.sigmoid() * memory.tanh(), memory
        if self.mode == "GRU":
            recurrent = hidden @ weight if bias is None else hidden @ weight + bias
            reset, update, new = inputs.chunk(3, dim=-1)
            recurrent_reset, recurrent_update, recurrent_new = recurrent.chunk(3, dim=-1)
            candidate = (new + (reset + recurrent_reset).sigmoid() * recurrent_new).tanh()
            keep = (update + recurrent_update).sigmoid()
            return ((1 - keep) * candidate + keep * hidden,)
        total = inputs + hidden @ weight
        return (total.tanh() if self.mode == "RNN_TANH" else total.relu(),)
