"""Sequences padded to one length and cut again, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from tests.nn.functional.peer import agree, draw
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
