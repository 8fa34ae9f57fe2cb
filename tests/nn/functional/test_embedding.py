"""Rows looked up one by one and in bags against PyTorch: values, gradients, renormalised tables, edge sizes, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from tests.nn.functional.peer import agree, draw
from treadle import nn
from treadle.core import ConfigError, DTypeError, IndexRangeError, ShapeError
from treadle.nn import functional as F

peer = torch.nn.functional
TABLE = draw(7, 3)
NUMBERS = np.array([[1, 2, 2], [5, 0, 6]])
FLAT = np.array([4, 1, 1, 0, 6, 2, 2, 2])


@pytest.mark.parametrize(
    "settings", [{}, {"padding_idx": 2}, {"padding_idx": -1}, {"scale_grad_by_freq": True}], ids=str
)
@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3), (0,), (2, 0)], ids=str)
def test_embedding(shape: tuple[int, ...], settings: dict[str, Any]) -> None:
    numbers = np.random.default_rng(1).integers(0, 7, shape)
    agree(
        lambda w: F.embedding(td.asarray(numbers), w, **settings),
        lambda w: peer.embedding(torch.tensor(numbers), w, **settings),
        TABLE,
        compiled=True,
    )


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8", "uint32"])
def test_numbers_of_any_integer_dtype(dtype: str) -> None:
    found = F.embedding(td.asarray(NUMBERS.astype(dtype)), td.asarray(TABLE))
    np.testing.assert_array_equal(found.numpy(), TABLE[NUMBERS])
    found = F.embedding_bag(td.asarray(NUMBERS.astype(dtype)), td.asarray(TABLE), mode="sum")
    np.testing.assert_allclose(found.numpy(), TABLE[NUMBERS].sum(axis=1), rtol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("norm_type", [2.0, 1.0, np.inf])
@pytest.mark.parametrize("bag", [False, True])
def test_max_norm_changes_the_rows_that_are_looked_up(bag: bool, norm_type: float, compiled: bool) -> None:
    weight, theirs = nn.Parameter(TABLE), torch.nn.Parameter(torch.tensor(TABLE))
    ours_fn, peer_fn = (F.embedding_bag, peer.embedding_bag) if bag else (F.embedding, peer.embedding)

    def run(numbers: td.Tensor) -> td.Tensor:
        y = ours_fn(numbers, weight, max_norm=0.7, norm_type=norm_type)
        (y * y).sum().backward()
        return y

    with torch.no_grad():  # PyTorch refuses to change a leaf in place otherwise
        want = peer_fn(torch.tensor(NUMBERS), theirs, max_norm=0.7, norm_type=norm_type)
    found = (td.compile(run) if compiled else run)(td.asarray(NUMBERS))
    np.testing.assert_allclose(found.numpy(), want.numpy(), rtol=1e-5)
    np.testing.assert_allclose(weight.numpy(), theirs.detach().numpy(), rtol=1e-5)
    np.testing.assert_array_equal(weight.numpy()[[3, 4]], TABLE[[3, 4]])
    assert weight.grad is not None
    assert not weight.grad.numpy()[[3, 4]].any()


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding_idx", [None, 2, -1])
@pytest.mark.parametrize("shape", [(2, 3), (1, 1), (3, 0), (0, 3)], ids=str)
def test_bags_of_one_size(shape: tuple[int, int], padding_idx: int | None, mode: str) -> None:
    numbers = np.random.default_rng(2).integers(0, 7, shape)
    if not numbers.size:  # PyTorch fails on some of these; zeros are what an empty bag gives
        found = F.embedding_bag(td.asarray(numbers), td.asarray(TABLE), mode=mode, padding_idx=padding_idx)
        np.testing.assert_array_equal(found.numpy(), np.zeros((shape[0], 3), np.float32))
        return
    agree(
        lambda w: F.embedding_bag(td.asarray(numbers), w, mode=mode, padding_idx=padding_idx),
        lambda w: peer.embedding_bag(torch.tensor(numbers), w, mode=mode, padding_idx=padding_idx),
        TABLE,
        compiled=True,
    )


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding_idx", [None, 2])
@pytest.mark.parametrize("offsets", [[0], [0, 3], [0, 0, 2, 2, 7, 8], [0, 1, 2, 3, 4, 5, 6, 7]], ids=str)
@pytest.mark.parametrize("last", [False, True])
def test_bags_with_offsets(offsets: list[int], padding_idx: int | None, mode: str, last: bool) -> None:
    settings: dict[str, Any] = {"mode": mode, "padding_idx": padding_idx, "include_last_offset": last}
    given = np.array([*offsets, 8] if last else offsets)
    agree(
        lambda w: F.embedding_bag(td.asarray(FLAT), w, td.asarray(given), **settings),
        lambda w: peer.embedding_bag(torch.tensor(FLAT), w, torch.tensor(given), **settings),
        TABLE,
        compiled=True,
    )


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_numbers_behind_the_last_offset_are_in_no_bag(mode: str) -> None:
    # PyTorch counts them in a mean.
    found = F.embedding_bag(FLAT, TABLE, np.array([0, 2, 5]), mode=mode, include_last_offset=True)
    want = F.embedding_bag(FLAT[:5], TABLE, np.array([0, 2]), mode=mode)
    np.testing.assert_array_equal(found.numpy(), want.numpy())


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_gradients_by_frequency(mode: str) -> None:
    # PyTorch divides by the counts of other rows in bags; what it documents is what it does in `embedding`.
    agree(
        lambda w: F.embedding_bag(td.asarray(NUMBERS), w, mode=mode, scale_grad_by_freq=True),
        lambda w: getattr(peer.embedding(torch.tensor(NUMBERS), w, scale_grad_by_freq=True), mode)(1),
        TABLE,
    )


def test_bags_in_a_compiled_function_of_their_numbers() -> None:
    run = td.compile(lambda n, o, w: F.embedding_bag(n, w, o, mode="max"))
    want = peer.embedding_bag(torch.tensor(FLAT), torch.tensor(TABLE), torch.tensor([0, 3, 3]), mode="max")
    np.testing.assert_array_equal(run(FLAT, np.array([0, 3, 3]), TABLE).numpy(), want.numpy())


@pytest.mark.parametrize("settings", [{}, {"padding_idx": 1}], ids=str)
def test_weights_of_samples(settings: dict[str, Any]) -> None:
    factor, offsets = draw(8, seed=4), np.array([0, 3, 3])
    agree(
        lambda w, f: F.embedding_bag(
            td.asarray(FLAT), w, td.asarray(offsets), mode="sum", per_sample_weights=f, **settings
        ),
        lambda w, f: peer.embedding_bag(
            torch.tensor(FLAT), w, torch.tensor(offsets), mode="sum", per_sample_weights=f, **settings
        ),
        TABLE,
        factor,
    )
    agree(
        lambda w, f: F.embedding_bag(td.asarray(NUMBERS), w, mode="sum", per_sample_weights=f),
        lambda w, f: peer.embedding_bag(torch.tensor(NUMBERS), w, mode="sum", per_sample_weights=f),
        TABLE,
        draw(2, 3, seed=5),
    )


def test_nan_in_the_padding_row_stays_there() -> None:
    table = TABLE.copy()
    table[2] = np.nan
    for mode in ("sum", "mean", "max"):
        found = F.embedding_bag(td.asarray(FLAT), td.asarray(table), td.asarray([0, 4]), mode=mode, padding_idx=2)
        assert np.isfinite(found.numpy()).all()


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ["weight"]),
        ({"padding_idx": 2, "max_norm": 1.0}, ["weight"]),
        ({"max_norm": 1.0, "norm_type": 1.0}, ["weight"]),
    ],
    ids=str,
)
def test_layers(settings: dict[str, Any], names: list[str]) -> None:
    for kind, numbers in (("Embedding", FLAT), ("EmbeddingBag", NUMBERS)):
        ours, theirs = getattr(nn, kind)(7, 3, **settings), getattr(torch.nn, kind)(7, 3, **settings)
        assert list(ours.state_dict()) == names
        if "padding_idx" in settings:
            np.testing.assert_array_equal(ours.weight.numpy()[2], 0)
        ours.load_state_dict({"weight": theirs.weight.detach().numpy()})
        want = theirs(torch.tensor(numbers)).detach().numpy()
        np.testing.assert_allclose(ours(td.asarray(numbers)).numpy(), want, rtol=1e-5)
    assert repr(nn.Embedding(7, 3, 2, 1.0)) == repr(torch.nn.Embedding(7, 3, 2, 1.0))


def test_a_table_from_elsewhere() -> None:
    layer = nn.Embedding.from_pretrained(td.asarray(TABLE))
    np.testing.assert_array_equal(layer(td.asarray([1])).numpy(), TABLE[[1]])
    assert not layer.weight.requires_grad
    bag = nn.EmbeddingBag.from_pretrained(td.asarray(TABLE), False, None, 2.0, False, "max", padding_idx=-1)
    assert bag.weight.requires_grad
    assert (bag.mode, bag.padding_idx) == ("max", 6)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda w, n: F.embedding(n, w[0]), ShapeError, "embedding: weight .* is not a table"),
        (lambda w, n: F.embedding(w, w), DTypeError, "embedding: numbers have dtype float32"),
        (lambda w, n: F.embedding(n, w, 7), IndexRangeError, "padding_idx 7 .* for 7 rows. Allowed: -7 to 6"),
        (lambda w, n: F.embedding(n, w, max_norm=1.0), ConfigError, "max_norm changes the weight"),
        (lambda w, n: F.embedding(n, w, sparse=True), ConfigError, "embedding: sparse is True"),
        (lambda w, n: F.embedding_bag(n, w, mode="min"), ConfigError, "mode is 'min'. Allowed: sum, mean, max"),
        (lambda w, n: F.embedding_bag(n, w, td.asarray([0])), ShapeError, r"embedding_bag: input .* with offsets"),
        (lambda w, n: F.embedding_bag(n[0], w), ShapeError, r"embedding_bag: input .* without offsets"),
        (lambda w, n: F.embedding_bag(n[0], w, td.asarray([1])), IndexRangeError, "offsets start at 1"),
        (lambda w, n: F.embedding_bag(n[0], w, td.asarray([0, 4])), IndexRangeError, "end at 4.*exceed the 3 numbers"),
        (lambda w, n: F.embedding_bag(n[0], w, td.asarray([0.0])), ShapeError, "must be a vector of integers"),
        (lambda w, n: F.embedding_bag(n, w, mode="max", scale_grad_by_freq=True), ConfigError, "does not go with mode"),
        (lambda w, n: F.embedding_bag(n, w, per_sample_weights=w), ConfigError, "They go with mode 'sum'"),
        (lambda w, n: F.embedding_bag(n, w, mode="sum", per_sample_weights=w), ConfigError, "have the input's shape"),
        (lambda w, n: F.embedding_bag(n + 5, w).numpy(), IndexRangeError, "index 11 is out of range"),
        (lambda w, n: nn.Embedding(0, 3), ConfigError, "Embedding: sizes 0, 3"),
        (lambda w, n: nn.Embedding(3, 3, 3), IndexRangeError, "Embedding: padding_idx 3 is out of range"),
        (lambda w, n: nn.EmbeddingBag(3, 3, sparse=True), ConfigError, "EmbeddingBag: sparse is True"),
        (lambda w, n: nn.EmbeddingBag(3, 3, mode="x"), ConfigError, "EmbeddingBag: mode is 'x'"),
        (lambda w, n: nn.Embedding.from_pretrained(w[0]), ShapeError, "from_pretrained: .* is not a table"),
    ],
)
def test_errors(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call(td.asarray(TABLE), td.asarray(NUMBERS))
