"""Products under PyTorch's names, and the rest of `td.linalg`, against PyTorch and NumPy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle.ir import topological

LA = td.linalg


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape) + sum(shape)).standard_normal(shape)


CALLS: list[tuple[str, list[tuple[int, ...]], dict[str, Any]]] = [
    ("mm", [(2, 3), (3, 4)], {}),
    ("mm", [(2, 0), (0, 4)], {}),
    ("bmm", [(5, 2, 3), (5, 3, 4)], {}),
    ("bmm", [(0, 2, 3), (0, 3, 4)], {}),
    ("mv", [(2, 3), (3,)], {}),
    ("dot", [(3,), (3,)], {}),
    ("dot", [(0,), (0,)], {}),
    ("inner", [(2, 3), (4, 3)], {}),
    ("inner", [(3,), (2, 4, 3)], {}),
    ("inner", [(), (2, 3)], {}),
    ("ger", [(3,), (2,)], {}),
    ("outer", [(1,), (2,)], {}),
    ("kron", [(2, 3), (4, 5)], {}),
    ("kron", [(3,), (2, 2)], {}),
    ("kron", [(2, 1, 3), (2,)], {}),
    ("kron", [(), (2,)], {}),
    ("addmm", [(2, 4), (2, 3), (3, 4)], {}),
    ("addmm", [(4,), (2, 3), (3, 4)], {"beta": 0.5, "alpha": 2}),
    ("addmm", [(2, 1), (2, 3), (3, 4)], {"beta": -1}),
    ("addmm", [(), (2, 3), (3, 4)], {}),
    ("addmv", [(2,), (2, 3), (3,)], {"alpha": 3}),
    ("addr", [(2, 3), (2,), (3,)], {"beta": 2}),
    ("baddbmm", [(5, 2, 4), (5, 2, 3), (5, 3, 4)], {"beta": 2, "alpha": -1}),
    ("baddbmm", [(1, 4), (5, 2, 3), (5, 3, 4)], {}),
    ("addbmm", [(2, 4), (5, 2, 3), (5, 3, 4)], {"beta": 2, "alpha": 3}),
]


@pytest.mark.parametrize(("name", "shapes", "keywords"), CALLS)
def test_values_and_gradients_are_those_of_pytorch(
    name: str, shapes: list[tuple[int, ...]], keywords: dict[str, Any]
) -> None:
    arrays = [draw(*s) for s in shapes]
    ours, theirs = getattr(td, name), getattr(torch, name)
    inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
    want = theirs(*inputs, **keywords)
    got = ours(*[td.asarray(a) for a in arrays], **keywords)
    assert got.shape == tuple(want.shape)
    np.testing.assert_allclose(got.numpy(), want.detach().numpy(), rtol=1e-12, atol=1e-12)
    weights = np.random.default_rng(1).standard_normal(got.shape)
    expected = torch.autograd.grad((want * torch.tensor(weights)).sum(), inputs)
    found = td.grad(lambda *x: (ours(*x, **keywords) * weights).sum(), argnums=tuple(range(len(arrays))))(*arrays)
    for g, w in zip(found, expected, strict=True):
        np.testing.assert_allclose(g.numpy(), w.numpy(), rtol=1e-12, atol=1e-12)


def test_what_is_not_added_may_be_nan() -> None:
    nan = td.full((2, 2), float("nan"))
    np.testing.assert_array_equal(td.addmm(nan, td.eye(2), td.eye(2), beta=0).numpy(), np.eye(2))


def test_a_sum_after_a_product_is_one_kernel() -> None:
    @td.compile
    def layer(b: td.Tensor, x: td.Tensor, w: td.Tensor) -> td.Tensor:
        return td.addmm(b, x, w, beta=0.5, alpha=2)

    assert len(layer.plan(td.ones(4), td.ones((2, 3)), td.ones((3, 4))).steps) == 1
    batch = td.addbmm(td.ones((2, 4)), td.ones((5, 2, 3)), td.ones((5, 3, 4)))
    assert [n.shape for n in topological([batch.node]) if n.op.name == "matmul"] == [(2, 4)]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: td.mm(td.ones((2, 3)), td.ones(3)),
            r"mm: operands have f32\[2,3\], f32\[3\]; the number of axes must be 2, 2",
        ),
        (lambda: td.bmm(td.ones((2, 3, 4)), td.ones((1, 4, 2))), "bmm: batches .* differ in size"),
        (lambda: td.addbmm(td.ones(1), td.ones((2, 3, 4)), td.ones((1, 4, 2))), "addbmm: batches .* differ in size"),
        (lambda: td.dot(td.ones((2, 2)), td.ones(2)), "dot: operands have"),
        (lambda: td.mv(td.ones((2, 2)), td.ones(3)), "matmul: cannot multiply"),
        (lambda: td.addmm(td.ones((3, 2, 4)), td.ones((2, 3)), td.ones((3, 4))), "does not broadcast to the product"),
        (lambda: LA.multi_dot([td.ones(2)]), "multi_dot: got 1 tensors"),
        (lambda: LA.multi_dot([td.ones(2), td.ones(2), td.ones(2)]), r"operand 1 is f32\[2\]"),
        (lambda: LA.cross(td.ones(2), td.ones(2)), "cross: axis -1 of .* has size 2. Allowed: 3"),
        (lambda: LA.cross(td.ones((2, 3)), td.ones(3), axis=1), "cross: axis 1 is ambiguous"),
        (lambda: LA.diagonal(td.ones(2)), "diagonal: takes matrices"),
        (lambda: LA.matrix_power(td.ones((2, 3)), 2), "matrix_power: takes square matrices"),
        (lambda: LA.vander(td.asarray(1.0)), "vander: takes vectors"),
        (lambda: LA.vander(td.ones(2), 0), "vander: 0 powers asked"),
    ],
)
def test_shapes_that_do_not_fit(call: Any, text: str) -> None:
    with pytest.raises(td.ShapeError, match=text):
        call()


def test_multi_dot_takes_the_cheapest_order() -> None:
    for sizes in [(10, 2, 30, 3), (2, 30, 3, 20), (4, 3, 2, 5, 6, 1), (2, 3, 2)]:
        arrays = [draw(a, b) for a, b in itertools.pairwise(sizes)]
        got = LA.multi_dot([td.asarray(a) for a in arrays])
        np.testing.assert_allclose(
            got.numpy(), np.linalg.multi_dot(arrays) if len(arrays) > 1 else arrays[0], rtol=1e-10
        )
    product = LA.multi_dot([td.ones((100, 2)), td.ones((2, 100)), td.ones((100, 3))])
    assert sorted(n.shape for n in topological([product.node]) if n.op.name == "matmul") == [(2, 3), (100, 3)]
    v, m = draw(3), draw(3, 3)
    np.testing.assert_allclose(float(LA.multi_dot([td.asarray(v), td.asarray(m), td.asarray(v)])), v @ m @ v)
    np.testing.assert_allclose(LA.multi_dot([td.asarray(m), td.asarray(v)]).numpy(), m @ v)


@pytest.mark.parametrize("dtype", [td.float32, td.float64, td.int32, td.int64], ids=str)
def test_cross(dtype: td.DType) -> None:
    for a, b, axis in [
        ((3,), (3,), -1),
        ((2, 3), (3,), -1),
        ((4, 3, 2), (1, 3, 2), 1),
        ((3, 2), (3, 2), 0),
        ((0, 3), (0, 3), -1),
    ]:
        x, y = (np.random.randint(-5, 6, s).astype(dtype.numpy) for s in (a, b))
        got = LA.cross(td.asarray(x), td.asarray(y), axis=axis)
        assert got.dtype is dtype
        np.testing.assert_array_equal(got.numpy(), np.linalg.cross(x, y, axis=axis))


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (4, 2), (2, 3, 4), (1, 1), (0, 3), (3, 0), (0, 2, 2)], ids=str)
def test_diagonal_and_trace(shape: tuple[int, ...]) -> None:
    x = np.random.randint(-5, 6, shape)
    for offset in range(-4, 5):
        got = LA.diagonal(td.asarray(x), offset=offset)
        np.testing.assert_array_equal(got.numpy(), np.linalg.diagonal(x, offset=offset))
        np.testing.assert_array_equal(LA.trace(td.asarray(x), offset=offset).numpy(), np.linalg.trace(x, offset=offset))
    for dtype in (td.int8, td.uint8, td.float32):
        total = LA.trace(td.asarray(np.abs(x).astype(dtype.numpy)))
        assert total.dtype is {"int": td.int64, "uint": td.uint64, "float": td.float32}[dtype.kind]
    assert LA.trace(td.asarray(x), dtype=td.float64).dtype is td.float64


def test_matrix_power() -> None:
    a = draw(2, 3, 3)
    for n in range(-4, 9):
        np.testing.assert_allclose(LA.matrix_power(td.asarray(a), n).numpy(), np.linalg.matrix_power(a, n), rtol=1e-8)
    ints = np.array([[1, 1], [1, 0]])
    np.testing.assert_array_equal(LA.matrix_power(td.asarray(ints), 30).numpy(), np.linalg.matrix_power(ints, 30))
    with pytest.raises(td.DTypeError, match=r"matrix_power: the power 1\.5 is not a whole number"):
        LA.matrix_power(td.asarray(a), 1.5)


def test_matrix_rank() -> None:
    low = draw(4, 2) @ draw(2, 5)
    for x in (low, draw(3, 3), np.zeros((2, 2)), np.stack([np.eye(3), np.ones((3, 3))]), np.diag([1, 1e-3, 1e-9])):
        np.testing.assert_array_equal(LA.matrix_rank(td.asarray(x)).numpy(), np.linalg.matrix_rank(x))
        for rtol in (1e-2, 1e-5):
            np.testing.assert_array_equal(
                LA.matrix_rank(td.asarray(x), rtol=rtol).numpy(), np.linalg.matrix_rank(x, rtol=rtol)
            )
        for keywords in ({"atol": 1e-2}, {"atol": 0.1, "rtol": 1e-4}):
            want = torch.linalg.matrix_rank(torch.tensor(x), **keywords)
            np.testing.assert_array_equal(LA.matrix_rank(td.asarray(x), **keywords).numpy(), want.numpy())
    two = np.stack([np.diag([1, 1e-3]), np.diag([1, 1e-3])])
    found = LA.matrix_rank(td.asarray(two), rtol=td.asarray(np.array([1e-2, 1e-5])))
    np.testing.assert_array_equal(found.numpy(), [1, 2])
    assert found.dtype is td.int64
    s = low @ low.T
    assert int(LA.matrix_rank(td.asarray(s), hermitian=True)) == np.linalg.matrix_rank(s, hermitian=True)


def test_vander() -> None:
    for x in (np.array([1.0, 2.0, -3.0, np.inf]), np.array([[1, 2], [3, 4]])):
        for n in (None, 2, 3):
            np.testing.assert_array_equal(
                LA.vander(td.asarray(x), n).numpy(), torch.linalg.vander(torch.tensor(x), N=n).numpy()
            )
    np.testing.assert_array_equal(LA.vander(td.ones(3), 1).numpy(), np.ones((3, 1)))


def test_what_pytorch_has_at_the_top_is_pointed_to() -> None:
    for name, where in [
        ("det", "td.linalg.det"),
        ("inverse", "td.linalg.inv"),
        ("norm", "td.linalg.norm"),
        ("vdot", "td.dot"),
    ]:
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'. PyTorch's {name} is here: {where}"):
            getattr(td, name)
