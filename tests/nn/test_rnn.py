"""Recurrent layers against PyTorch: values, gradients, every argument."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle import nn
from treadle.core import ConfigError, ShapeError, config
from treadle.nn import functional as F

Array = np.ndarray[Any, Any]
KINDS = ("RNN", "LSTM", "GRU")
T, B, IN, HIDDEN = 5, 3, 4, 6


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def pair(kind: str, *args: Any, **settings: Any) -> tuple[Any, Any]:
    """Return PyTorch's layer and ours with the same parameters."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(*args, **settings)
    ours = getattr(nn, kind)(*args, **settings)
    values = {k: v.detach().numpy() for k, v in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(values), "names and their order are PyTorch's"
    ours.load_state_dict(values)
    return theirs, ours


def flat(tree: Any) -> list[Any]:
    return [x for part in tree for x in flat(part)] if isinstance(tree, tuple) else [tree]


def compare(theirs: Any, ours: Any, x: Array, hx: Any, **more: Any) -> None:
    """Compare results, and the gradients of all parameters, the input and the first states."""
    tx = torch.tensor(x, requires_grad=True)
    states = [] if hx is None else flat(hx)
    ths = [torch.tensor(h, requires_grad=True) for h in states]
    given = None if hx is None else (tuple(ths) if isinstance(hx, tuple) else ths[0])
    wanted = flat(theirs(tx) if given is None else theirs(tx, given))
    sum(torch.sin(w * 1.5).sum() for w in wanted).backward()

    def loss(x: Any, hs: Any) -> Any:
        given = None if hx is None else (tuple(hs) if isinstance(hx, tuple) else hs[0])
        found = flat(ours(x, given, **more))
        return sum((td.sum(td.sin(f * 1.5)) for f in found), td.asarray(0.0)), found

    def everything(x: Any, hs: Any) -> Any:
        for p in ours.parameters():
            p.grad = None
        (dx, dhs), found = td.grad(loss, (0, 1), has_aux=True)(x, hs)
        loss(x, hs)[0].backward()
        grads = {name: p.grad for name, p in ours.named_parameters()}
        return found, dx, dhs, grads

    found, dx, dhs, grads = everything(td.asarray(x), [td.asarray(h) for h in states])
    for f, w in zip(found, wanted, strict=True):
        assert f.shape == tuple(w.shape)
        np.testing.assert_allclose(f.numpy(), w.detach().numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx.numpy(), tx.grad.numpy(), rtol=1e-4, atol=2e-5)
    for d, h in zip(dhs, ths, strict=True):
        np.testing.assert_allclose(d.numpy(), h.grad.numpy(), rtol=1e-4, atol=2e-5)
    for name, p in theirs.named_parameters():
        np.testing.assert_allclose(grads[name].numpy(), p.grad.numpy(), rtol=1e-4, atol=5e-5, err_msg=name)


def states_for(kind: str, settings: dict[str, Any], batch: int | None) -> Any:
    count = settings.get("num_layers", 1) * (2 if settings.get("bidirectional") else 1)
    size = settings.get("proj_size") or HIDDEN
    inner = () if batch is None else (batch,)
    h = draw(count, *inner, size, seed=1)
    return (h, draw(count, *inner, HIDDEN, seed=2)) if kind == "LSTM" else h


@pytest.mark.parametrize(
    ("kind", "layers", "bidirectional", "bias", "first", "given"),
    [
        (k, *rest)
        for k, rest in itertools.product(
            KINDS, [(1, False, True, False, True), (2, True, True, True, True), (2, False, False, True, False),
                    (1, True, False, False, False)]
        )
    ],
)  # fmt: skip
def test_layers(kind: str, layers: int, bidirectional: bool, bias: bool, first: bool, given: bool) -> None:
    settings = {"num_layers": layers, "bidirectional": bidirectional, "bias": bias, "batch_first": first}
    theirs, ours = pair(kind, IN, HIDDEN, **settings)
    x = draw(B, T, IN) if first else draw(T, B, IN)
    compare(theirs, ours, x, states_for(kind, settings, B) if given else None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_without_a_batch(kind: str, first: bool, given: bool) -> None:
    settings = {"num_layers": 2, "bidirectional": True, "batch_first": first}
    theirs, ours = pair(kind, IN, HIDDEN, **settings)
    compare(theirs, ours, draw(T, IN), states_for(kind, settings, None) if given else None)


@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 3), (4, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_sizes_of_one(kind: str, steps: int, batch: int) -> None:
    theirs, ours = pair(kind, IN, HIDDEN)
    compare(theirs, ours, draw(steps, batch, IN), None)


def test_relu() -> None:
    theirs, ours = pair("RNN", IN, HIDDEN, 2, "relu", bidirectional=True)
    compare(theirs, ours, draw(T, B, IN), None)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_a_projection_of_the_hidden_state(bidirectional: bool, given: bool) -> None:
    settings = {"num_layers": 2, "bidirectional": bidirectional, "proj_size": 2}
    theirs, ours = pair("LSTM", IN, HIDDEN, **settings)
    compare(theirs, ours, draw(T, B, IN), states_for("LSTM", settings, B) if given else None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_lengths_are_packed_sequences(kind: str, bidirectional: bool, first: bool) -> None:
    settings = {"num_layers": 2, "bidirectional": bidirectional, "batch_first": first}
    theirs, ours = pair(kind, IN, HIDDEN, **settings)
    lengths = np.array([2, 5, 1])

    def packed(x: Any, hx: Any = None) -> Any:
        given = torch.nn.utils.rnn.pack_padded_sequence(
            x, torch.tensor(lengths), batch_first=first, enforce_sorted=False
        )
        out, last = theirs(given, hx)
        return torch.nn.utils.rnn.pad_packed_sequence(out, batch_first=first, total_length=T)[0], last

    packed.named_parameters = theirs.named_parameters  # type: ignore[attr-defined]
    x = draw(B, T, IN) if first else draw(T, B, IN)
    compare(packed, ours, x, states_for(kind, settings, B), lengths=td.asarray(lengths))


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_training_is_eager_training(kind: str) -> None:
    found: list[list[float]] = []
    for compiled in (False, True):
        _, ours = pair(kind, IN, HIDDEN, 2, bidirectional=True)
        optimizer = td.optim.Adam(ours.parameters(), lr=1e-2)

        def step(x: Any, ours: Any = ours, optimizer: Any = optimizer) -> Any:
            loss = td.mean(ours(x)[0] ** 2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        run = td.compile(step) if compiled else step
        found.append([float(run(td.asarray(draw(T, B, IN)))) for _ in range(3)])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    assert found[0][0] > found[0][1] > found[0][2]


def test_a_reader_and_a_writer_with_one_embedding() -> None:
    """What the gradient of the writer's loop stacks is also what its product before the loop takes."""
    td.manual_seed(0)
    embed, reader, cell, head = nn.Embedding(7, IN), nn.GRU(IN, IN), nn.GRUCell(IN, IN), nn.Linear(IN, 2)
    parameters = [p for module in (embed, reader, cell, head) for p in module.parameters()]
    read, wrote = (np.random.default_rng(k).integers(0, 7, (T, B)) for k in range(2))

    def loop(read: Any, wrote: Any) -> Any:
        def turn(h: Any, x: Any) -> Any:
            h = cell(embed(x), h)
            return h, head(h)

        return td.scan(turn, reader(embed(read))[1][0], wrote)[1]

    def turns(read: Any, wrote: Any) -> Any:
        h, out = reader(embed(read))[1][0], []
        for x in wrote:
            h = cell(embed(x), h)
            out.append(head(h))
        return td.stack(out)

    def gradients(write: Any) -> Any:
        for p in parameters:
            p.grad = None
        td.sum(td.sin(write(td.asarray(read), td.asarray(wrote)))).backward()
        return [p.grad for p in parameters]

    for found, wanted in zip(td.compile(lambda: gradients(loop))(), gradients(turns), strict=True):
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-4, atol=1e-5)


def test_dropout_acts_between_layers_in_training_only() -> None:
    lstm = nn.LSTM(IN, HIDDEN, 2, dropout=0.5)
    alone = nn.LSTM(IN, HIDDEN, 1, dropout=0.5)
    x = td.asarray(draw(T, B, IN))
    assert not np.array_equal(lstm(x)[0].numpy(), lstm(x)[0].numpy())
    np.testing.assert_array_equal(alone(x)[0].numpy(), alone(x)[0].numpy())
    lstm.eval()
    np.testing.assert_array_equal(lstm(x)[0].numpy(), lstm(x)[0].numpy())
    dropped = nn.GRU(IN, HIDDEN, 2, dropout=1.0)
    first = dropped(x)[0].numpy()
    np.testing.assert_allclose(first, dropped(x * 3.0)[0].numpy(), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_dtypes(kind: str, dtype: str) -> None:
    layer = getattr(nn, kind)(IN, HIDDEN, dtype=dtype)
    out, _ = layer(td.astype(td.asarray(draw(T, B, IN)), dtype))
    assert out.dtype.name == dtype
    plain = getattr(nn, kind)(IN, HIDDEN)
    plain.load_state_dict({k: td.astype(v, "float32").numpy() for k, v in layer.state_dict().items()})
    wanted = plain(td.astype(td.astype(td.asarray(draw(T, B, IN)), dtype), "float32"))[0].numpy()
    tolerance = {"float64": 1e-5, "float16": 1e-2, "bfloat16": 6e-2}[dtype]
    np.testing.assert_allclose(td.astype(out, "float32").numpy(), wanted, atol=tolerance)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(B, IN), (1, IN), (IN,)])
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("kind", [f"{k}Cell" for k in KINDS])
def test_cells(kind: str, given: bool, shape: tuple[int, ...], bias: bool) -> None:
    theirs, ours = pair(kind, IN, HIDDEN, bias)
    h = draw(*shape[:-1], HIDDEN, seed=1)
    hx = (h, draw(*shape[:-1], HIDDEN, seed=2)) if kind == "LSTMCell" else h
    compare(theirs, ours, draw(*shape), hx if given else None)


def test_a_relu_cell() -> None:
    theirs, ours = pair("RNNCell", IN, HIDDEN, True, "relu")
    compare(theirs, ours, draw(B, IN), draw(B, HIDDEN, seed=1))


def test_the_same_bits_for_any_number_of_threads() -> None:
    bits: list[list[bytes]] = []
    for threads in (1, 2, 3):
        with config(threads=threads):
            torch.manual_seed(0)
            _, ours = pair("LSTM", 64, 128)

            @td.compile
            def step(x: Any, ours: Any = ours) -> Any:
                out = td.sum(ours(x)[0] ** 2)
                out.backward()
                return out

            out = step(td.asarray(draw(8, 32, 64)))
            bits.append([out.numpy().tobytes(), *[p.grad.numpy().tobytes() for p in ours.parameters()]])
    assert bits[0] == bits[1] == bits[2]


def test_repr_says_what_is_not_default() -> None:
    assert "4, 6, num_layers=2, batch_first=True" in repr(nn.LSTM(4, 6, 2, batch_first=True))
    assert "4, 6, bias=False" in repr(nn.GRUCell(4, 6, False))


x3, h3 = np.zeros((T, B, IN), np.float32), np.zeros((1, B, HIDDEN), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.LSTM(0, 3), ConfigError, "input_size is 0"),
        (lambda: nn.GRU(3, 0), ConfigError, "hidden_size is 0"),
        (lambda: nn.RNN(3, 3, 0), ConfigError, "num_layers is 0"),
        (lambda: nn.RNN(3, 3, 1, "sine"), ConfigError, "'sine'"),
        (lambda: nn.LSTM(3, 3, dropout=1.5), ConfigError, "dropout is 1.5"),
        (lambda: nn.LSTM(3, 3, proj_size=3), ConfigError, "proj_size is 3"),
        (lambda: nn.LSTMCell(3, 0), ConfigError, "hidden_size is 0"),
        (lambda: nn.LSTM(IN, HIDDEN)(x3[..., :2]), ShapeError, "the input is"),
        (lambda: nn.LSTM(IN, HIDDEN)(x3[None]), ShapeError, "the input is"),
        (lambda: nn.LSTM(IN, HIDDEN)(x3, (h3, h3[:, :2])), ShapeError, "first cell state"),
        (lambda: nn.LSTM(IN, HIDDEN)(x3, h3), ShapeError, "must be a pair"),
        (lambda: nn.GRU(IN, HIDDEN)(x3, h3[0]), ShapeError, "first hidden state"),
        (lambda: nn.GRU(IN, HIDDEN)(x3, lengths=[1, 2]), ShapeError, "lengths is"),
        (lambda: nn.GRUCell(IN, HIDDEN)(x3), ShapeError, "the input is"),
        (lambda: F.gru_cell(x3[0], h3[0], np.zeros((18, 4), "f"), np.zeros((17, 6), "f")), ShapeError, "w_hh is"),
        (lambda: F.lstm_cell(x3[0], (h3[0], h3[0, :2]), np.zeros((24, 4), "f"), np.zeros((24, 6), "f")), ShapeError,
         "hidden state is"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_an_error(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
