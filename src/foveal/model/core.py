"""Cores: what is remembered from glimpse to glimpse (Mnih et al. 2014, §3.1, f_h)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from foveal.names import Registry

State = tuple[Tensor, ...]  # of a core: (B, size) each, the first h


class Core(nn.Module):
    """What a core has to give: a first state, and from features and a state the next one.

    A state is a tuple of tensors ``(B, size)``, of which the first is h, ``(B, hidden_size)``, from
    which the model answers. A core is made as ``Core(input_size, hidden_size)``.

    Attributes:
        state_names: of the tensors of its states, in exported models.
    """

    state_names: ClassVar[tuple[str, ...]] = ("hidden",)

    def initial(self, batch_size: int) -> State:
        """The state before anything is seen."""
        raise NotImplementedError

    def for_policy(self, state: State) -> Tensor:
        """What of a state decides where to look, ``(B, hidden_size)``: h, unless overridden."""
        return state[0]


CORES: Registry[type[Core]] = Registry("core")


@CORES.add("rnn")
class RNNCore(Core):
    """The rectifier core: h_t = relu(Linear(h_{t-1}) + Linear(g_t)).

    It starts as a perfect memory, with the identity from h_{t-1} to h_t (Le et al. 2015,
    arXiv 1504.00941); the paper does not say how its own starts.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.from_hidden = nn.Linear(hidden_size, hidden_size)
        self.from_features = nn.Linear(input_size, hidden_size)
        nn.init.eye_(self.from_hidden.weight)
        nn.init.zeros_(self.from_hidden.bias)

    def initial(self, batch_size: int) -> State:
        """See `Core.initial`: zeros."""
        bias = self.from_hidden.bias
        return (bias.new_zeros((batch_size, len(bias))),)

    def forward(self, features: Tensor, state: State) -> State:
        """``(B, input_size)`` features and the last state to the next state."""
        hidden = sum_of_linear(self.from_features, features, self.from_hidden, state[0])
        return (torch.relu_(hidden),)


@CORES.add("lstm")
class LSTMCore(Core):
    """The LSTM core, the paper's for Catch; its forget gate starts open (bias 1)."""

    state_names = ("hidden", "cell")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(input_size, hidden_size)
        with torch.no_grad():
            # PyTorch adds two biases; gates are in the order input, forget, cell, output.
            self.cell.bias_hh.zero_()
            self.cell.bias_ih.zero_()
            self.cell.bias_ih[hidden_size : 2 * hidden_size] = 1.0

    def initial(self, batch_size: int) -> State:
        """See `Core.initial`: zeros."""
        zeros = self.cell.bias_hh.new_zeros((batch_size, self.cell.hidden_size))
        return zeros, zeros

    def forward(self, features: Tensor, state: State) -> State:
        """``(B, input_size)`` features and the last state to the next state."""
        if features.is_cuda and torch.is_autocast_enabled("cuda"):
            return self.remembering(features, state)
        return self.cell(features, tuple(state))  # type: ignore[no-any-return]

    def remembering(self, features: Tensor, state: State) -> State:
        """The same with what is remembered in float32: a GPU's cell would round it at each look."""
        hidden, cell = state
        inputs = nn.functional.linear(features, self.cell.weight_ih, self.cell.bias_ih)
        gates = inputs + nn.functional.linear(hidden, self.cell.weight_hh, self.cell.bias_hh)
        enter, keep, new, show = gates.float().chunk(4, 1)
        cell = keep.sigmoid() * cell + enter.sigmoid() * new.tanh()
        return show.sigmoid() * cell.tanh(), cell


@CORES.add("sum")
class SumCore(Core):
    """Evidence that adds up in any order: h_t = h_{t-1} + sigmoid(gate(g_t)) Linear(g_t).

    As in gated attention over the instances of a bag (Ilse, Tomczak and Welling 2018,
    arXiv 1802.04712), but that weights do not compete: for many looks that each tell something.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.evidence = nn.Linear(input_size, hidden_size)
        self.gate = nn.Linear(input_size, 1)

    def initial(self, batch_size: int) -> State:
        """See `Core.initial`: zeros."""
        bias = self.evidence.bias
        return (bias.new_zeros((batch_size, len(bias))),)

    def forward(self, features: Tensor, state: State) -> State:
        """``(B, input_size)`` features and the last state to the next state."""
        return (state[0] + torch.sigmoid(self.gate(features)) * self.evidence(features),)


@CORES.add("attention")
class AttentionCore(Core):
    """Evidence of which the weightiest rules, in any order: h_t is the mean of Linear(g_i), i <= t.

    Each unit of h has weights of its own, exp(a_i) with a_i = 8 Linear(g_i), so that the topmost
    of several things, or the largest, can outweigh all others: attention over the instances of a
    bag (Ilse, Tomczak and Welling 2018, arXiv 1802.04712), taken in one after another (Milakov and
    Gimelshein 2018, arXiv 1805.02867). What was there before the first look has exp(0), unless a
    context says otherwise.
    """

    state_names = ("hidden", "weight")
    SHARPNESS = 8.0  # at 1 the weights of places that lie close together are too long alike

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.evidence = nn.Linear(input_size, hidden_size)
        self.weight = nn.Linear(input_size, hidden_size)

    def initial(self, batch_size: int) -> State:
        """See `Core.initial`: zeros; of the second part the logarithm of the sum of weights."""
        zeros = self.evidence.bias.new_zeros((batch_size, len(self.evidence.bias)))
        return zeros, zeros

    def forward(self, features: Tensor, state: State) -> State:
        """``(B, input_size)`` features and the last state to the next state."""
        mean, before = state  # in float32, if features are bfloat16
        weight = self.SHARPNESS * self.weight(features).to(before)
        total = torch.logaddexp(before, weight)
        return torch.lerp(mean, self.evidence(features).to(mean), (weight - total).exp()), total


def sum_of_linear(one: nn.Linear, inputs: Tensor, other: nn.Linear, others: Tensor) -> Tensor:
    """``one(inputs) + other(others)``, the second product added to the first in its place."""
    total = nn.functional.linear(inputs, one.weight, one.bias + other.bias)
    # In bfloat16 autocast, PyTorch makes the types of operations alike, but not of those in place.
    return total.addmm_(others.to(total.dtype), other.weight.t().to(total.dtype))
