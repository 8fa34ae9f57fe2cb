"""The matrix product: batches, transposed operands, every dtype, and gradients that sum inside one product."""

import re

import ml_dtypes
import numpy as np
import pytest

from tests.ops.apply import gradients, lowered, types_of
from treadle.core import DTYPES, DTypeError, ShapeError, Type, bool_, float32, float64
from treadle.ir import Graph, inputs_for
from treadle.ops.fused import run_graph
from treadle.ops.linalg import Matmul, matmul
from treadle.ops.movement import swap_last


def whole(*shape: int, dtype=np.float32) -> np.ndarray:
    return np.random.randint(-4, 5, shape).astype(dtype)


SHAPES = [
    ((3, 4), (4, 2)),
    ((1, 1), (1, 1)),
    ((3, 0), (0, 2)),
    ((0, 3), (3, 2)),
    ((5, 3, 4), (4, 2)),
    ((2, 5, 3, 4), (4, 2)),
    ((3, 4), (5, 4, 2)),
    ((5, 1, 3, 4), (2, 4, 2)),
    ((1, 3, 4), (5, 4, 2)),
]


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_values_and_gradients_are_pytorch_s(a, b) -> None:
    torch = pytest.importorskip("torch")
    arrays = [whole(*a), whole(*b)]
    ts = [torch.tensor(x, requires_grad=True) for x in arrays]
    out = ts[0] @ ts[1]
    np.testing.assert_array_equal(Matmul().eval(*arrays), out.detach())
    np.testing.assert_array_equal(lowered(Matmul(), *arrays), out.detach())
    ct = whole(*out.shape)
    out.backward(torch.tensor(ct))
    for ours, t in zip(gradients(Matmul(), arrays, ct), ts, strict=True):
        np.testing.assert_array_equal(ours, t.grad)
    inputs = inputs_for(types_of(arrays))
    np.testing.assert_array_equal(run_graph(Graph(inputs, (matmul(*inputs),)), arrays)[0], out.detach())


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind != "bool"])
def test_dtypes(dtype) -> None:
    low = 0 if dtype.kind == "uint" else -4
    a, b = (np.random.randint(low, 5, s).astype(dtype.numpy) for s in ((3, 4), (4, 5)))
    exact = a.astype(int) @ b.astype(int)
    np.testing.assert_array_equal(Matmul().eval(a, b).astype(int), exact)
    np.testing.assert_array_equal(lowered(Matmul(), a, b).astype(int), exact)
    assert lowered(Matmul(), a, b).dtype == dtype.numpy


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_short_floats_are_summed_in_float32(dtype) -> None:
    a, b = np.ones((1, 1000), dtype), np.ones((1000, 1), dtype)
    assert lowered(Matmul(), a, b) == Matmul().eval(a, b) == np.asarray(1000, dtype)


def test_a_shared_matrix_is_one_product_forward_and_back() -> None:
    """[B, T, K] @ [K, N] and its gradients are three products of two axes: no batch of products, no sum after."""
    x, w, ct = inputs_for([Type(float32, (2, 5, 3)), Type(float32, (3, 4)), Type(float32, (2, 5, 4))])
    out = matmul(x, w)
    product = out.args[0]
    (dw,) = [Matmul().vjp(ct, Matmul()(x, w), x, w)[1]]
    assert product.op.name == dw.op.name == "matmul"
    for node in (product, dw):
        assert node.type.ndim == 2
    ops = {n.op.name for n in Graph((x, w, ct), tuple(n for n in Matmul().vjp(ct, Matmul()(x, w), x, w) if n)).nodes()}
    assert ops == {"input", "reshape", "permute", "matmul"}


def test_a_transposed_operand_is_an_index_map() -> None:
    (b,) = inputs_for([Type(float32, (2, 5, 3))])
    turned = swap_last(b)
    assert turned.shape == (2, 3, 5)
    assert turned.op.name == "permute"


def test_errors_name_the_values() -> None:
    f = Type(float32, (3, 4))
    for message, wrong in {
        "matmul: f32[3,4] and f32[3,4] do not fit; the last axis of the first has size 4, the last but one": (
            f,
            f,
        ),
        "matmul: f32[4] and f32[4] must have at least two axes each": (Type(float32, (4,)),) * 2,
        "matmul: operands have dtypes float32, float64": (f, Type(float64, (4, 3))),
        "matmul: does not take bool": (Type(bool_, (2, 2)),) * 2,
        "matmul: cannot broadcast [2] and [3]; axis -1 has sizes [2, 3]": (
            Type(float32, (2, 3, 4)),
            Type(float32, (3, 4, 5)),
        ),
    }.items():
        with pytest.raises((ShapeError, DTypeError), match=re.escape(message)):
            Matmul().infer(*wrong)
