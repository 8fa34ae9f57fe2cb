"""Sequences padded to one length and cut again, or packed, against PyTorch; recurrent layers of packed ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from tests.nn.functional.peer import agree, draw
from treadle import nn
from treadle.core import ConfigError, ShapeError, TraceError
from treadle.nn.utils import rnn

peer = torch.nn.utils.rnn
PARTS = [draw(n, 2, seed=n) for n in (3, 0, 5, 1)]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("value", [0.0, -1.5])
def test_padding(batch_first: bool, side: str, value: float) -> None:
    agree(
        lambda *parts: rnn.pad_sequence(parts, batch_first, value, side),
        lambda *parts: peer.pad_sequence(list(parts), batch_first, value, side),
        *PARTS,
        compiled=True,
    )


def test_padding_of_numbers_of_tokens() -> None:
    parts = [np.array([1, 2]), np.array([3])]
    found = rnn.pad_sequence(parts, True, 9)
    assert found.dtype == td.int64
    np.testing.assert_array_equal(found.numpy(), [[1, 2], [3, 9]])
    np.testing.assert_array_equal(rnn.pad_sequence(parts[:1]).numpy(), [[1], [2]])


@pytest.mark.parametrize("batch_first", [False, True])
def test_there_and_back(batch_first: bool) -> None:
    padded = rnn.pad_sequence(PARTS, batch_first)
    for found, part in zip(rnn.unpad_sequence(padded, [3, 0, 5, 1], batch_first), PARTS, strict=True):
        np.testing.assert_array_equal(found.numpy(), part)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: rnn.pad_sequence([]), ShapeError, "pad_sequence: got no sequences"),
        (lambda: rnn.pad_sequence([draw(2, 3), draw(2, 4)]), ShapeError, "the same sizes behind the first axis"),
        (lambda: rnn.pad_sequence([td.asarray(1.0)]), ShapeError, "pad_sequence: got"),
        (lambda: rnn.pad_sequence(PARTS, padding_side="up"), ConfigError, "padding_side is 'up'. Allowed: right, left"),
        (lambda: rnn.unpad_sequence(draw(3, 2), [1]), ShapeError, "Give one for each sequence"),
        (lambda: rnn.unpad_sequence(draw(3, 2), [1, 4]), ShapeError, r"lengths are \[1, 4\]. Allowed: 0 to 3"),
        (
            lambda: td.compile(lambda n: rnn.unpad_sequence(draw(3, 2), n))(np.array([1, 2])),
            TraceError,
            "Keep the sequences padded there",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


LENGTHS = [2, 4, 1, 4, 3]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("lengths", [LENGTHS, [1], [4, 4, 2]], ids=str)
def test_packed(lengths: list[int], shape: tuple[int, ...], batch_first: bool) -> None:
    x = draw(*((len(lengths), 5) if batch_first else (5, len(lengths))), *shape)
    sort = lengths == sorted(lengths, reverse=True)
    ours = rnn.pack_padded_sequence(x, lengths, batch_first, sort)
    theirs = peer.pack_padded_sequence(torch.tensor(x), torch.tensor(lengths), batch_first, sort)
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    for settings in ({}, {"padding_value": -1.0}, {"total_length": 6}):
        found = rnn.pad_packed_sequence(ours, batch_first, **settings)
        want = peer.pad_packed_sequence(theirs, batch_first, **settings)
        for a, b in zip(found, want, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_gradients_go_through_packing() -> None:
    def of(module: Any) -> Any:
        return lambda x: module.pad_packed_sequence(
            module.pack_padded_sequence(x, LENGTHS, enforce_sorted=False), padding_value=2.0
        )[0]

    agree(of(rnn), of(peer), draw(5, 5, 2), compiled=True)


def test_sequences_packed_and_unpacked() -> None:
    parts = [PARTS[0], PARTS[2], PARTS[3]]
    packed = rnn.pack_sequence(parts, enforce_sorted=False)
    want = peer.pack_sequence([torch.tensor(p) for p in parts], enforce_sorted=False)
    np.testing.assert_array_equal(packed.data.numpy(), want.data.numpy())
    for found, part in zip(rnn.unpack_sequence(packed), parts, strict=True):
        np.testing.assert_array_equal(found.numpy(), part)
    np.testing.assert_array_equal(rnn.invert_permutation(np.array([2, 0, 1])).numpy(), [1, 2, 0])
    assert rnn.invert_permutation(None) is None


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_recurrent_layers_take_packed_sequences(kind: str, batch_first: bool, given: bool) -> None:
    settings: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "batch_first": batch_first}
    ours, theirs = getattr(nn, kind)(3, 4, **settings), getattr(torch.nn, kind)(3, 4, **settings)
    ours.load_state_dict({name: value.detach().numpy() for name, value in theirs.state_dict().items()})
    x = draw(*((5, 4) if batch_first else (4, 5)), 3)
    start = [draw(4, 5, 4, seed=k) for k in range(2 if kind == "LSTM" else 1)]
    packed = rnn.pack_padded_sequence(x, LENGTHS, batch_first, enforce_sorted=False)
    want = peer.pack_padded_sequence(torch.tensor(x), torch.tensor(LENGTHS), batch_first, enforce_sorted=False)
    hx = (tuple(map(td.asarray, start)) if kind == "LSTM" else td.asarray(start[0])) if given else None
    their_hx = (tuple(map(torch.tensor, start)) if kind == "LSTM" else torch.tensor(start[0])) if given else None
    out, last = ours(packed, hx)
    their_out, their_last = theirs(want, their_hx)
    assert isinstance(out, rnn.PackedSequence)
    np.testing.assert_allclose(out.data.numpy(), their_out.data.detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(out.batch_sizes.numpy(), their_out.batch_sizes.numpy())
    pairs = zip(last, their_last, strict=True) if kind == "LSTM" else [(last, their_last)]
    for a, b in pairs:
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: rnn.pack_padded_sequence(draw(3, 2), [1]), ShapeError, "Give one whole number per sequence"),
        (lambda: rnn.pack_padded_sequence(draw(3, 2), [1, 0]), ShapeError, r"lengths are \[1, 0\]. Allowed: 1 to 3"),
        (lambda: rnn.pack_padded_sequence(draw(3, 2), [4, 1]), ShapeError, r"lengths are \[4, 1\]"),
        (lambda: rnn.pack_padded_sequence(draw(3, 2), [1, 3]), ConfigError, r"\[1, 3\] do not fall. Sort them, or"),
        (
            lambda: rnn.pad_packed_sequence(rnn.pack_padded_sequence(draw(3, 2), [3, 1]), total_length=2),
            ConfigError,
            "total_length is 2, and the longest sequence has 3 steps",
        ),
        (
            lambda: nn.GRU(2, 2)(rnn.pack_sequence([draw(3, 2)]), lengths=[3]),
            ConfigError,
            "GRU: a packed input knows its lengths",
        ),
        (
            lambda: td.compile(lambda n: rnn.pack_padded_sequence(draw(3, 2), n).data)(np.array([3, 2])),
            TraceError,
            "pass lengths= to the recurrent layer",
        ),
    ],
)
def test_errors_of_packing(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
