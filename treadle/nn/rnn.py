"""Recurrent layers with PyTorch's arguments and parameter names: RNN, LSTM, GRU, and their cells of one step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, cast

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor
from treadle.tensor.creation import arange, asarray, empty, zeros
from treadle.tensor.manipulation import concat, stack, swapaxes
from treadle.tensor.promotion import Operand, as_tensor

from . import functional as F
from . import init
from .functional.rnn import State, Step, Weights, gru_step, lstm_step, recurrent_layer, rnn_relu_step, rnn_tanh_step
from .module import Module
from .packed import PackedSequence, packed_like, pad_packed_sequence
from .parameter import Parameter

STEPS: dict[str, Step] = {"tanh": rnn_tanh_step, "relu": rnn_relu_step}


class RNNBase(Module):
    """Layers of a recurrent cell over time, each in one or two directions.

    Parameters are called `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`, `weight_hr_l0` (with a
    projection), then those of the backward direction with `_reverse` behind, then those of layer 1.
    """

    gates: ClassVar[int]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        dtype: object = "float32",
    ) -> None:
        super().__init__()
        what = type(self).__name__
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if size < 1:
                raise ConfigError(f"{what}: {name} is {size}. It must be at least 1.")
        if not 0 <= dropout <= 1:
            raise ConfigError(f"{what}: dropout is {dropout}. It is a probability: 0 to 1.")
        if not 0 <= proj_size < hidden_size:
            raise ConfigError(
                f"{what}: proj_size is {proj_size}. It must be smaller than hidden_size, {hidden_size}; 0 is none."
            )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        rows, out = self.gates * hidden_size, proj_size or hidden_size
        for layer in range(num_layers):
            features = input_size if layer == 0 else out * self.num_directions
            for suffix in self.suffixes(layer):
                shapes = {"weight_ih": (rows, features), "weight_hh": (rows, out)}
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for name, shape in shapes.items():
                    setattr(self, name + suffix, Parameter(empty(shape, dtype=dtype)))
        self.reset_parameters()

    @property
    def num_directions(self) -> int:
        """2 if the layers also run backwards, else 1."""
        return 2 if self.bidirectional else 1

    def suffixes(self, layer: int) -> list[str]:
        """Return what the names of a layer's parameters end with, for each direction."""
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.num_directions]

    def reset_parameters(self) -> None:
        """Draw every parameter uniformly within 1 / sqrt(hidden_size)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        """Return the sizes and the settings that are not the defaults."""
        defaults = {
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
            "proj_size": 0,
        }
        settings = [f"{k}={getattr(self, k)}" for k, default in defaults.items() if getattr(self, k) != default]
        return ", ".join([str(self.input_size), str(self.hidden_size), *settings])

    def step(self) -> Step:
        """Return the cell's step."""
        raise NotImplementedError(f"{type(self).__name__}.step")

    def weights(self, suffix: str) -> Weights:
        """Return the parameters of one layer in one direction."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        parameters: list[Any] = [getattr(self, name + suffix, None) for name in names]
        return Weights(*parameters)

    def run(
        self,
        input: Operand | PackedSequence,
        states: Sequence[Tensor | None],
        lengths: Operand | Sequence[int] | None,
    ) -> tuple[Tensor | PackedSequence, State]:
        """Return the output, and the last states stacked over layers and directions.

        Args:
            input: [T, B, features], [B, T, features] with batch_first, or [T, features]; or packed, as is the output.
            states: first states [layers * directions, B, size], without B as the input; None for zeros.
            lengths: [B], the number of valid steps of each sequence; None when all are.
        """
        what = type(self).__name__
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ConfigError(
                    f"{what}: a packed input knows its lengths, and lengths= is given, too. Leave it out."
                )
            padded, counts = pad_packed_sequence(input, self.batch_first)
            out, last = self.run(padded, states, counts)
            return packed_like(input, as_tensor(what, out), self.batch_first), last
        x = as_tensor(what, input)
        batched = x.ndim == 3
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{what}: the input is {x.node.type!r}. It must be [T, B, {self.input_size}], or "
                f"[B, T, {self.input_size}] with batch_first, or [T, {self.input_size}] without a batch."
            )
        if not batched:
            x = x[:, None]
        elif self.batch_first:
            x = swapaxes(x, 0, 1)
        first = [self._first(k, state, x, batched) for k, state in enumerate(states)]
        mask = None if lengths is None else self._mask(lengths, x)
        ends: list[State] = []
        for layer in range(self.num_layers):
            outs: list[Tensor] = []
            for direction, suffix in enumerate(self.suffixes(layer)):
                held = tuple(s[layer * self.num_directions + direction] for s in first)
                out, state = recurrent_layer(
                    self.step(), x, held, self.weights(suffix), reverse=direction == 1, mask=mask
                )
                outs.append(out)
                ends.append(state)
            x = outs[0] if len(outs) == 1 else concat(outs, axis=-1)
            if layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        found = tuple(stack(parts) for parts in zip(*ends, strict=True))
        if not batched:
            return x[:, 0], tuple(s[:, 0] for s in found)
        return (swapaxes(x, 0, 1) if self.batch_first else x), found

    def _first(self, k: int, state: Tensor | None, x: Tensor, batched: bool) -> Tensor:
        """Return the first states [layers * directions, B, size]; number k: 0 is hidden, 1 is the LSTM's cell."""
        size = self.proj_size if self.proj_size and k == 0 else self.hidden_size
        count, batch = self.num_layers * self.num_directions, x.shape[1]
        if state is None:
            return zeros((count, batch, size), dtype=x.dtype)
        shape = (count, batch, size) if batched else (count, size)
        if state.shape != shape:
            raise ShapeError(
                f"{type(self).__name__}: the first {'cell' if k else 'hidden'} state is {state.node.type!r}. For this "
                f"input it must have shape {list(shape)}."
            )
        return state if batched else state[:, None]

    def _mask(self, lengths: Operand | Sequence[int], x: Tensor) -> Tensor:
        """Return which steps of which sequence are valid, [T, B, 1]."""
        counts = asarray(lengths)
        if counts.shape != (x.shape[1],) or not counts.dtype.is_integer:
            raise ShapeError(
                f"{type(self).__name__}: lengths is {counts.node.type!r}. It must be integers, one per sequence: "
                f"[{x.shape[1]}]."
            )
        return (arange(x.shape[0], dtype=counts.dtype)[:, None] < counts)[:, :, None]


class RNN(RNNBase):
    """h_t = f(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh), f being tanh or relu (Elman 1990).

    `rnn(input, hx)` returns (output, h_n); see `LSTM` for the shapes.
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: object = "float32",
    ) -> None:
        _known_nonlinearity("RNN", nonlinearity)
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype=dtype)
        self.nonlinearity = nonlinearity

    def step(self) -> Step:
        """Return the cell's step."""
        return STEPS[self.nonlinearity]

    def forward(
        self,
        input: Operand | PackedSequence,
        hx: Operand | None = None,
        *,
        lengths: Operand | Sequence[int] | None = None,
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Return (output, h_n)."""
        out, (h,) = self.run(input, [None if hx is None else as_tensor("RNN", hx)], lengths)
        return out, h


class GRU(RNNBase):
    """Gated recurrent units, with PyTorch's order of gates r, z, n (Cho et al. 2014, arXiv:1406.1078).

    `gru(input, hx)` returns (output, h_n); see `LSTM` for the shapes.
    """

    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: object = "float32",
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype=dtype)

    def step(self) -> Step:
        """Return the cell's step."""
        return gru_step

    def forward(
        self,
        input: Operand | PackedSequence,
        hx: Operand | None = None,
        *,
        lengths: Operand | Sequence[int] | None = None,
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Return (output, h_n)."""
        out, (h,) = self.run(input, [None if hx is None else as_tensor("GRU", hx)], lengths)
        return out, h


class LSTM(RNNBase):
    """Long short-term memory, with PyTorch's order of gates i, f, g, o (Hochreiter & Schmidhuber 1997).

    `lstm(input, (h_0, c_0))` returns (output, (h_n, c_n)). The input is [T, B, input_size], [B, T, input_size] with
    `batch_first`, or [T, input_size]; the output the same with directions * (proj_size or hidden_size) features; the
    states are [num_layers * directions, B, size], without B for an input without it, and zeros if not given.

    `lengths=` are the numbers of valid steps of each sequence: steps behind them leave the state as it is and give 0.
    A `nn.utils.rnn.PackedSequence` has its lengths with it, and gives one.
    """

    gates = 4

    def step(self) -> Step:
        """Return the cell's step."""
        return lstm_step

    def forward(
        self,
        input: Operand | PackedSequence,
        hx: tuple[Operand, Operand] | None = None,
        *,
        lengths: Operand | Sequence[int] | None = None,
    ) -> tuple[Tensor | PackedSequence, tuple[Tensor, Tensor]]:
        """Return (output, (h_n, c_n))."""
        states = [None, None] if hx is None else [as_tensor("LSTM", s) for s in _pair("LSTM", hx)]
        out, (h, c) = self.run(input, states, lengths)
        return out, (h, c)


class RNNCellBase(Module):
    """One step of a recurrent cell. Parameters: `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`."""

    gates: ClassVar[int]

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, dtype: object = "float32") -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if size < 1:
                raise ConfigError(f"{type(self).__name__}: {name} is {size}. It must be at least 1.")
        self.input_size = input_size
        self.hidden_size = hidden_size
        rows = self.gates * hidden_size
        self.weight_ih = Parameter(empty((rows, input_size), dtype=dtype))
        self.weight_hh = Parameter(empty((rows, hidden_size), dtype=dtype))
        self.bias_ih = Parameter(empty((rows,), dtype=dtype)) if bias else None
        self.bias_hh = Parameter(empty((rows,), dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter uniformly within 1 / sqrt(hidden_size)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias_ih is not None else ", bias=False")

    def operands(self, input: Operand, states: list[Operand | None]) -> tuple[Tensor, list[Tensor]]:
        """Return the input [..., input_size] and the states [..., hidden_size], zeros where none are given."""
        what = type(self).__name__
        x = as_tensor(what, input)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{what}: the input is {x.node.type!r}. It must be [B, {self.input_size}] or [{self.input_size}]."
            )
        shape = (*x.shape[:-1], self.hidden_size)
        return x, [zeros(shape, dtype=x.dtype) if s is None else as_tensor(what, s) for s in states]


class RNNCell(RNNCellBase):
    """h' = f(W_ih x + b_ih + W_hh h + b_hh), f being tanh or relu."""

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        dtype: object = "float32",
    ) -> None:
        _known_nonlinearity("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, bias, dtype=dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Operand, hx: Operand | None = None) -> Tensor:
        """Return the next hidden state."""
        x, (h,) = self.operands(input, [hx])
        cell = F.rnn_tanh_cell if self.nonlinearity == "tanh" else F.rnn_relu_cell
        return cell(x, h, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)


class GRUCell(RNNCellBase):
    """One step of a GRU."""

    gates = 3

    def forward(self, input: Operand, hx: Operand | None = None) -> Tensor:
        """Return the next hidden state."""
        x, (h,) = self.operands(input, [hx])
        return F.gru_cell(x, h, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)


class LSTMCell(RNNCellBase):
    """One step of an LSTM."""

    gates = 4

    def forward(self, input: Operand, hx: tuple[Operand, Operand] | None = None) -> tuple[Tensor, Tensor]:
        """Return the next hidden state and the next cell state."""
        x, states = self.operands(input, [None, None] if hx is None else [*_pair("LSTMCell", hx)])
        return F.lstm_cell(x, states, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)


def _pair(what: str, hx: Any) -> tuple[Operand, Operand]:
    if not isinstance(hx, tuple | list) or len(cast(tuple[Any, ...], hx)) != 2:
        found = type(cast(object, hx)).__name__
        raise ShapeError(f"{what}: the state is {found}. It must be a pair: hidden state, cell state.")
    first, second = cast(Any, hx)
    return first, second


def _known_nonlinearity(what: str, name: str) -> None:
    if name not in STEPS:
        raise ConfigError(f"{what}: nonlinearity is {name!r}. Allowed: {', '.join(map(repr, STEPS))}.")
