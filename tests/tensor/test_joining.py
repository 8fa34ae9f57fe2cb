"""Tensors put side by side and taken apart against PyTorch."""

import numpy as np
import pytest
import torch

import treadle as td
from tests.tensor.peer import agree

RNG = np.random.default_rng(0)
SHAPES = [(), (1,), (4,), (2, 4), (0, 3), (2, 4, 6)]


def draw(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["hstack", "vstack", "dstack", "column_stack"])
def test_stacks(name: str, shape: tuple[int, ...]) -> None:
    ours, theirs = getattr(td, name), getattr(torch, name)
    agree(lambda a, b: ours([a, b]), lambda a, b: theirs([a, b]), draw(*shape), draw(*shape))
    with pytest.raises(td.ShapeError, match="got no tensors"):
        ours([])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["atleast_1d", "atleast_2d", "atleast_3d"])
def test_at_least_so_many_axes(name: str, shape: tuple[int, ...]) -> None:
    ours, theirs = getattr(td, name), getattr(torch, name)
    agree(ours, theirs, draw(*shape))
    agree(ours, theirs, draw(*shape), draw(3))
    agree(lambda *x: ours(list(x)), lambda *x: theirs(list(x)), draw(*shape), draw(3))


def test_block_diag() -> None:
    agree(td.block_diag, torch.block_diag, draw(2, 3), draw(4), draw(), draw(0, 2), draw(1, 1))
    with pytest.raises(td.ShapeError, match="is no matrix"):
        td.block_diag(draw(1, 2, 3))


def test_all_choices() -> None:
    agree(td.cartesian_prod, torch.cartesian_prod, draw(2), draw(3), draw(1))
    agree(td.cartesian_prod, torch.cartesian_prod, draw(3))
    for r in (0, 1, 2, 3, 5):
        for again in (False, True):
            agree(
                lambda x, r=r, again=again: td.combinations(x, r, again),
                lambda x, r=r, again=again: torch.combinations(x, r, again),
                draw(4),
            )
    with pytest.raises(td.ShapeError, match="combinations"):
        td.combinations(draw(2, 2))


@pytest.mark.parametrize("parts", [1, 2, 4, 7, [2], [1, 4], [3, 1], [0, -2, 9], []])
def test_tensor_split(parts) -> None:
    for axis in (0, -1):
        agree(
            lambda x, a=axis: td.tensor_split(x, parts, a),
            lambda x, a=axis: torch.tensor_split(x, parts, a),
            draw(5, 6),
        )


@pytest.mark.parametrize(
    ("name", "shape"), [("hsplit", (4,)), ("hsplit", (2, 4)), ("vsplit", (4, 3)), ("dsplit", (1, 2, 4))]
)
def test_splits_along_the_first_axes(name: str, shape: tuple[int, ...]) -> None:
    ours, theirs = getattr(td, name), getattr(torch, name)
    for parts in (2, [1, 3]):
        agree(lambda x, p=parts: ours(x, p), lambda x, p=parts: theirs(x, p), draw(*shape))
    with pytest.raises(td.ShapeError, match="does not divide into 3 equal parts"):
        ours(draw(*shape), 3)
    with pytest.raises(td.ShapeError, match=name):
        ours(draw(), 2)


def test_flat_positions() -> None:
    for shape in ((4, 5), (2, 3, 4), (7,)):
        place = RNG.integers(0, 7, (2, 3))
        agree(lambda i, s=shape: td.unravel_index(i, s), lambda i, s=shape: torch.unravel_index(i, s), place)
    agree(td.ravel, torch.ravel, draw(2, 3))
    agree(lambda x: td.diagflat(x, 1), lambda x: torch.diagflat(x, 1), draw(2, 2))
    with pytest.raises(td.ShapeError, match="positions are float64"):
        td.unravel_index(draw(2), (2, 2))
