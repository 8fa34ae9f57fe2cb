"""einsum against NumPy and PyTorch: syntax, values, gradients, the programs it becomes, and its errors."""

from __future__ import annotations

import itertools
import string
from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle.ir import topological

SIZES = dict(zip(string.ascii_letters, itertools.cycle((2, 3, 4, 1)), strict=False)) | {"z": 0}

EQUATIONS = [
    "i->",
    "i->i",
    "i",
    "ij->ji",
    "ji",
    "ij->i",
    "ij->",
    "ii",
    "ii->i",
    "iij->ji",
    "iii->i",
    "iijj->ij",
    "iij->j",
    "i,i->",
    "i,i",
    "i,i->i",
    "i,j->ij",
    "i,j->ji",
    "i,j",
    ",ij->ij",
    ",->",
    "ij,j->i",
    "j,ij->i",
    "ij,jk->ik",
    "ij,jk->ki",
    "ij,jk",
    "ba,cb",
    "ij,kj->ik",
    "ji,jk->ik",
    "ji,kj->ki",
    "bij,bjk->bik",
    "bij,bjk->bki",
    "bij,bkj->ibk",
    "ibj,kbj->bik",
    "bhqd,bhkd->bhqk",
    "bqhd,bkhd->bhqk",
    "bhqk,bkhd->bqhd",
    "bij,bj->bi",
    "bij,bij->b",
    "bij,bij->",
    "abij,abjk->ik",
    "abc,cd,def->abef",
    "abc,adc->bd",
    "ab,cd->",
    "ab,cd->ad",
    "ab,bc,cd,de->ae",
    "ab,bc,ca->",
    "a,b,c->abc",
    "abc,abc,abc->c",
    "ij,ij,j->i",
    "aab,bcc->ac",
    "iz,zj->ij",
    "zi,zj->zij",
    "Ab,bC->CA",
    "bA,Cb",
    " i j , j k -> i k ",
]


def arrays_for(equation: str, dtype: Any = np.float64) -> list[np.ndarray]:
    rng = np.random.default_rng(len(equation))
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    return [rng.integers(-4, 5, [SIZES[c] for c in t]).astype(dtype) for t in terms]


def lists_for(equation: str, arrays: list[Any]) -> list[Any]:
    """Return the same call with lists of labels."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    number = {c: k for k, c in enumerate(string.ascii_uppercase + string.ascii_lowercase)}
    found: list[Any] = []
    for array, term in zip(arrays, left.split(","), strict=True):
        found += [array, [number[c] for c in term]]
    return [*found, [number[c] for c in right]] if arrow else found


@pytest.mark.parametrize("equation", EQUATIONS)
def test_values_and_gradients(equation: str) -> None:
    arrays = arrays_for(equation)
    want = np.einsum(equation, *arrays)
    tensors = [td.asarray(a) for a in arrays]
    got = td.einsum(equation, *tensors)
    assert got.shape == want.shape
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12)
    np.testing.assert_allclose(td.einsum(*lists_for(equation, tensors)).numpy(), want, rtol=1e-12)
    weights = np.random.default_rng(0).standard_normal(want.shape)
    inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
    total = (torch.einsum(equation, *inputs) * torch.tensor(weights)).sum()
    theirs = torch.autograd.grad(total, inputs)
    found = td.grad(lambda *x: (td.einsum(equation, *x) * weights).sum(), argnums=tuple(range(len(arrays))))(*tensors)
    for g, w in zip(found, theirs, strict=True):
        np.testing.assert_allclose(g.numpy(), w.numpy(), rtol=1e-10, atol=1e-12)


DOTTED = [
    ("...i->...", [(2, 3, 4)]),
    ("...ij->...ji", [(2, 3, 4)]),
    ("i...->...", [(2, 3, 4)]),
    ("i...j", [(2, 3, 4)]),
    ("...", [(2, 3)]),
    ("...->...", [()]),
    ("...ij,...jk->...ik", [(2, 3, 4), (2, 4, 5)]),
    ("...ij,...jk", [(2, 3, 4), (4, 5)]),
    ("...ij,jk", [(5, 2, 3, 4), (4, 5)]),
    ("b...d,d->b...", [(2, 3, 4, 5), (5,)]),
    ("...i,...i->...", [(2, 1, 4), (3, 4)]),
    ("...,...", [(3, 1), (4,)]),
    ("...ii->...i", [(2, 3, 3)]),
    ("i...i->...", [(3, 2, 3)]),
    ("a...,...a->...", [(3, 2), (2, 3)]),
    ("i...,j...->ij...", [(2, 5), (3, 5)]),
]


@pytest.mark.parametrize(("equation", "shapes"), DOTTED)
def test_ellipses(equation: str, shapes: list[tuple[int, ...]]) -> None:
    arrays = [np.random.standard_normal(s) for s in shapes]
    want = np.einsum(equation, *arrays)
    got = td.einsum(equation, *[td.asarray(a) for a in arrays])
    assert got.shape == want.shape
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12)


def test_axes_of_size_one_broadcast() -> None:
    for equation, shapes in [
        ("ij,jk->ik", [(2, 1), (3, 4)]),
        ("ij,jk->ik", [(1, 3), (3, 4)]),
        ("ij,ij->ij", [(2, 1), (1, 3)]),
        ("bij,bjk->bik", [(1, 2, 3), (5, 3, 4)]),
        ("i,i->", [(1,), (4,)]),
        ("i,i->i", [(1,), (4,)]),
    ]:
        arrays = [np.random.standard_normal(s) for s in shapes]
        got = td.einsum(equation, *[td.asarray(a) for a in arrays])
        np.testing.assert_allclose(got.numpy(), np.einsum(equation, *arrays), rtol=1e-12)


def test_what_pytorch_takes_further() -> None:
    a, b = np.random.standard_normal((2, 3, 4)), np.random.standard_normal((2, 4, 5))
    got = td.einsum("bij,bjk->bik", [td.asarray(a), td.asarray(b)])
    np.testing.assert_allclose(got.numpy(), a @ b)
    got = td.einsum("...i->i", td.asarray(a))  # axes of an ellipsis that the result does not name are summed
    np.testing.assert_allclose(got.numpy(), a.sum((0, 1)))
    got = td.einsum(td.asarray(a), [..., 0, 1], td.asarray(b), [..., 1, 2], [..., 0, 2])
    np.testing.assert_allclose(got.numpy(), a @ b)


@pytest.mark.parametrize("dtype", [td.float16, td.bfloat16, td.float32, td.int8, td.int32, td.uint8, td.int64], ids=str)
def test_dtypes(dtype: td.DType) -> None:
    for equation in ("ij,jk->ik", "ij,ij->i", "ii->i", "ij->", "ab,bc,cd->ad"):
        arrays = [
            np.abs(a).astype(dtype.numpy) if dtype.kind == "uint" else a.astype(dtype.numpy)
            for a in arrays_for(equation)
        ]
        got = td.einsum(equation, *[td.asarray(a) for a in arrays])
        assert got.dtype is dtype
        wide = [a.astype(np.float64) for a in arrays]
        want = np.einsum(equation, *wide)
        if dtype.is_integer:
            np.testing.assert_array_equal(got.numpy(), want.astype(np.int64).astype(dtype.numpy))
        else:
            np.testing.assert_allclose(got.numpy().astype(np.float64), want, rtol=2e-2)
    assert td.einsum("i,i", td.ones(2, dtype=td.int32), td.ones(2)).dtype is td.float32


def products(t: td.Tensor) -> list[tuple[int, ...]]:
    return [n.shape for n in topological([t.node]) if n.op.name == "matmul"]


def test_a_contraction_is_one_product() -> None:
    q, k = td.ones((2, 5, 3, 4)), td.ones((2, 6, 3, 4))
    assert products(td.einsum("bqhd,bkhd->bhqk", q, k)) == [(2, 3, 5, 6)]
    assert products(td.einsum("bqhd,bqhd->bqh", q, q)) == []
    assert products(td.einsum("i,j->ij", td.ones(2), td.ones(3))) == []

    @td.compile
    def scores(q: td.Tensor, k: td.Tensor) -> td.Tensor:
        return td.einsum("bqhd,bkhd->bhqk", q, k) * 0.5

    assert [s.kernel.kind for s in scores.plan(q, k).steps] == ["matmul"]


def test_many_operands_meet_in_a_good_order() -> None:
    a, b, c = td.ones((100, 2)), td.ones((2, 100)), td.ones((100, 3))
    assert sorted(sorted(p) for p in products(td.einsum("ab,bc,cd->ad", a, b, c))) == [[2, 3], [3, 100]]


def test_random_equations() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        terms = ["".join(rng.choice(list("abcde"), rng.integers(0, 4))) for _ in range(rng.integers(1, 4))]
        used = sorted(set("".join(terms)))
        out = "".join(rng.permutation(used)[: rng.integers(0, len(used) + 1)]) if used else ""
        equation = f"{','.join(terms)}->{out}"
        arrays = arrays_for(equation, np.int64)
        got = td.einsum(equation, *[td.asarray(a) for a in arrays])
        np.testing.assert_array_equal(got.numpy(), np.einsum(equation, *arrays), err_msg=equation)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((), td.ShapeError, "einsum: got nothing"),
        (("ij,jk", td.ones((2, 2))), td.ShapeError, "names 2 operands, 1 are given"),
        (("ij", td.ones(2)), td.ShapeError, r"operand 0 is f32\[2\], which has 1 axes; its labels 'ij' name 2"),
        (("i", td.ones((2, 2))), td.ShapeError, "Name each axis, or write"),
        (("i,i", td.ones(2), td.ones(3)), td.ShapeError, "label 'i' has sizes 2 and 3. Sizes must be equal or 1"),
        (("ii", td.ones((2, 3))), td.ShapeError, "label 'i' has sizes 2 and 3"),
        (("i->j", td.ones(2)), ValueError, "label 'j' is in no operand"),
        (("i->ii", td.ones(2)), ValueError, "label 'i' stands in the result twice"),
        (("i1", td.ones((2, 2))), ValueError, "'1' in 'i1' is not a label"),
        (("i->j->k", td.ones(2)), ValueError, "is not a label"),
        (("......", td.ones(2)), ValueError, "is not a label"),
        (("i.", td.ones(2)), ValueError, "is not a label"),
        ((td.ones(2), [99]), ValueError, "99 is not a label. Allowed: 0 to 51"),
        ((td.ones(2),), td.ShapeError, "every tensor is followed by a list of labels"),
        ((td.ones(2), [..., ...]), ValueError, "operand 0 has 2 ellipses"),
        (("i", td.ones(2, dtype=td.bool)), td.DTypeError, "einsum: does not take bool"),
    ],
)
def test_errors(arguments: tuple[Any, ...], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        td.einsum(*arguments)
