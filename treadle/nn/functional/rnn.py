"""Recurrent layers: one step of each kind of cell, and a layer of them over time as one loop.

What a step takes of its input alone is one product for all steps, computed before the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from treadle.core import ShapeError
from treadle.tensor import Tensor
from treadle.tensor.elementwise import sigmoid, tanh, where
from treadle.tensor.manipulation import chunk
from treadle.tensor.promotion import Operand, as_tensor
from treadle.tensor.scan import scan

from .linear import linear
from .rectifier import relu

State = tuple[Tensor, ...]
Step = Callable[[Tensor, State, "Weights"], State]


class Weights(NamedTuple):
    """The parameters of one layer in one direction, gates stacked along the first axis.

    Args:
        ih: of the input, [gates * hidden, input].
        hh: of the hidden state, [gates * hidden, hidden or, projected, proj].
        bias_ih: [gates * hidden], or None.
        bias_hh: the same.
        hr: the projection of the hidden state, [proj, hidden], or None.
    """

    ih: Operand
    hh: Operand
    bias_ih: Operand | None = None
    bias_hh: Operand | None = None
    hr: Operand | None = None


def rnn_tanh_step(z: Tensor, state: State, w: Weights) -> State:
    """H' = tanh(z + W_hh h + b_hh), where z is what the step takes of its input."""
    return (tanh(z + linear(state[0], w.hh, w.bias_hh)),)


def rnn_relu_step(z: Tensor, state: State, w: Weights) -> State:
    """H' = max(z + W_hh h + b_hh, 0)."""
    return (relu(z + linear(state[0], w.hh, w.bias_hh)),)


def lstm_step(z: Tensor, state: State, w: Weights) -> State:
    """i, f, g, o = z + W_hh h + b_hh; c' = s(f) c + s(i) tanh(g); h' = s(o) tanh(c') (Hochreiter & Schmidhuber 1997).

    With a projection, h' = W_hr (s(o) tanh(c')) (Sak et al. 2014, arXiv:1402.1128).
    """
    h, c = state
    i, f, g, o = chunk(z + linear(h, w.hh, w.bias_hh), 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return (h if w.hr is None else linear(h, w.hr)), c


def gru_step(z: Tensor, state: State, w: Weights) -> State:
    """r, u = s(z + W h + b); n = tanh(z_n + r (W_n h + b_n)); h' = (1 - u) n + u h (Cho et al. 2014)."""
    (h,) = state
    z_r, z_u, z_n = chunk(z, 3, axis=-1)
    h_r, h_u, h_n = chunk(linear(h, w.hh, w.bias_hh), 3, axis=-1)
    u = sigmoid(z_u + h_u)
    n = tanh(z_n + sigmoid(z_r + h_r) * h_n)
    return (n + u * (h - n),)


def recurrent_layer(
    step: Step, input: Tensor, state: State, weights: Weights, *, reverse: bool = False, mask: Tensor | None = None
) -> tuple[Tensor, State]:
    """Return the hidden states [T, B, hidden] of a layer for an input [T, B, features], and the last state.

    Where `mask` [T, B, 1] is false the state stays as it is, and the output is 0.
    """

    def turn(held: State, x: tuple[Tensor, Tensor | None]) -> tuple[State, Tensor]:
        z, valid = x
        new = step(z, held, weights)
        if valid is None:
            return new, new[0]
        kept = tuple(where(valid, n, h) for n, h in zip(new, held, strict=True))
        return kept, where(valid, new[0], 0.0)

    z = linear(input, weights.ih, weights.bias_ih)
    last, out = scan(turn, state, (z, mask), reverse=reverse)
    return out, last


def lstm_cell(
    input: Operand,
    hx: Sequence[Operand],
    w_ih: Operand,
    w_hh: Operand,
    b_ih: Operand | None = None,
    b_hh: Operand | None = None,
) -> tuple[Tensor, Tensor]:
    """Return (h', c') of one LSTM step for an input [..., features] and hx = (h, c)."""
    h, c = _cell("lstm_cell", 4, lstm_step, input, hx, Weights(w_ih, w_hh, b_ih, b_hh))
    return h, c


def gru_cell(
    input: Operand, hx: Operand, w_ih: Operand, w_hh: Operand, b_ih: Operand | None = None, b_hh: Operand | None = None
) -> Tensor:
    """Return h' of one GRU step for an input [..., features] and hidden state hx."""
    return _cell("gru_cell", 3, gru_step, input, (hx,), Weights(w_ih, w_hh, b_ih, b_hh))[0]


def rnn_tanh_cell(
    input: Operand, hx: Operand, w_ih: Operand, w_hh: Operand, b_ih: Operand | None = None, b_hh: Operand | None = None
) -> Tensor:
    """Return h' = tanh(W_ih x + b_ih + W_hh h + b_hh)."""
    return _cell("rnn_tanh_cell", 1, rnn_tanh_step, input, (hx,), Weights(w_ih, w_hh, b_ih, b_hh))[0]


def rnn_relu_cell(
    input: Operand, hx: Operand, w_ih: Operand, w_hh: Operand, b_ih: Operand | None = None, b_hh: Operand | None = None
) -> Tensor:
    """Return h' = max(W_ih x + b_ih + W_hh h + b_hh, 0)."""
    return _cell("rnn_relu_cell", 1, rnn_relu_step, input, (hx,), Weights(w_ih, w_hh, b_ih, b_hh))[0]


def _cell(what: str, gates: int, step: Step, input: Operand, hx: Sequence[Any], weights: Weights) -> State:
    x = as_tensor(what, input)
    state = tuple(as_tensor(what, h) for h in hx)
    w = as_tensor(what, weights.hh)
    if w.ndim != 2 or w.shape[0] != gates * w.shape[1]:
        raise ShapeError(
            f"{what}: w_hh is {w.node.type!r}. It must be [{gates} * hidden, hidden]: its gates are stacked along the "
            "first axis."
        )
    for held in state:
        if held.shape != (*x.shape[:-1], w.shape[1]):
            raise ShapeError(
                f"{what}: a hidden state is {held.node.type!r}; for an input {x.node.type!r} and w_hh {w.node.type!r} "
                f"it must have shape {[*x.shape[:-1], w.shape[1]]}."
            )
    return step(linear(x, weights.ih, weights.bias_ih), state, weights)
