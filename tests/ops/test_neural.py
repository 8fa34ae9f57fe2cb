"""Softmax, logsumexp, layer norm, cross-entropy: against PyTorch, at extreme values, for short floats, on nothing."""

import re

import ml_dtypes
import numpy as np
import pytest

from tests.ops.apply import expanded, gradients, types_of
from treadle.core import DTypeError, ShapeError, Type, bfloat16, float32, int64
from treadle.ir import Graph, inputs_for
from treadle.ops.neural import CrossEntropy, LayerNorm, LogSoftmax, LogSumExp, Softmax

INF, NAN = np.inf, np.nan


def normal(*shape: int, dtype=np.float32, scale: float = 1.0) -> np.ndarray:
    return (np.random.normal(size=shape) * scale).astype(dtype)


def close(a, b, tolerance: float = 2e-6) -> None:
    np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("op", "name"), [(Softmax, "softmax"), (LogSoftmax, "log_softmax")])
def test_softmax_is_pytorch_s(op, name, axis) -> None:
    torch = pytest.importorskip("torch")
    x, ct = normal(3, 5, 7, scale=30), normal(3, 5, 7)
    t = torch.tensor(x, requires_grad=True)
    y = getattr(torch, name)(t, axis)
    y.backward(torch.tensor(ct))
    close(expanded(op(axis), x)[0], y.detach())
    close(gradients(op(axis), [x], ct)[0], t.grad, 1e-5)


@pytest.mark.parametrize("op", [Softmax(1), LogSoftmax(1), LogSumExp((1,)), LogSumExp((0, 1), keepdims=True)])
@pytest.mark.parametrize("shape", [(4, 9), (1, 1), (3, 1), (0, 4)])
def test_expansions_are_their_reference(op, shape) -> None:
    for scale in (1.0, 1e4):
        x = normal(*shape, scale=scale)
        close(expanded(op, x)[0], op.eval(x))


def test_no_elements_along_the_axis() -> None:
    x = np.zeros((3, 0), np.float32)
    assert expanded(Softmax(1), x)[0].shape == expanded(LogSoftmax(1), x)[0].shape == (3, 0)
    for op in (LogSumExp((1,)), LogSumExp((0, 1))):
        assert np.all(expanded(op, x)[0] == -INF)
        np.testing.assert_array_equal(expanded(op, x)[0], op.eval(x))
    assert expanded(LogSumExp((1,)), np.zeros((0, 0), np.float32))[0].shape == (0,)
    assert expanded(CrossEntropy(), np.zeros((0, 0), np.float32), np.zeros(0, np.int64))[0].shape == (0,)
    assert (
        gradients(CrossEntropy(), [np.zeros((0, 0), np.float32), np.zeros(0, int)], np.zeros(0, np.float32))[0].size
        == 0
    )


def test_logsumexp_at_infinity() -> None:
    x = np.array([[-INF, -INF], [INF, 1], [-INF, 3], [INF, -INF], [NAN, 1]], np.float32)
    np.testing.assert_array_equal(expanded(LogSumExp((1,)), x)[0], np.array([-INF, INF, 3, INF, NAN], np.float32))
    np.testing.assert_array_equal(LogSumExp((1,)).eval(x), np.array([-INF, INF, 3, INF, NAN], np.float32))
    grad = gradients(LogSumExp((1,)), [x], np.ones(5, np.float32))[0]
    np.testing.assert_array_equal(grad[[0, 2]], [[0, 0], [0, 1]])
    assert np.isnan(grad[1, 0])
    assert grad[1, 1] == 0


def test_a_row_of_minus_infinity_has_no_softmax() -> None:
    x = np.full((1, 4), -INF, np.float32)
    with np.errstate(invalid="ignore"):
        assert np.isnan(expanded(Softmax(1), x)[0]).all()
    assert np.isnan(Softmax(1).eval(x)).all()


def test_masked_columns_get_nothing() -> None:
    x = np.array([[1, -INF, 2, -INF]], np.float32)
    p = expanded(Softmax(1), x)[0]
    assert p[0, 1] == p[0, 3] == 0
    grad = gradients(Softmax(1), [x], normal(1, 4))[0]
    assert grad[0, 1] == grad[0, 3] == 0
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("num_axes", [1, 2])
@pytest.mark.parametrize("num_affine", [0, 1, 2])
def test_layer_norm_is_pytorch_s(num_axes, num_affine) -> None:
    torch = pytest.importorskip("torch")
    x, ct = normal(3, 5, 8) + 3, normal(3, 5, 8)
    affine = [normal(*x.shape[-num_axes:]) for _ in range(num_affine)]
    ts = [torch.tensor(a, requires_grad=True) for a in (x, *affine)]
    y = torch.nn.functional.layer_norm(ts[0], x.shape[-num_axes:], *ts[1:], eps=1e-3)
    y.backward(torch.tensor(ct))
    op = LayerNorm(num_axes, 1e-3)
    close(expanded(op, x, *affine)[0], y.detach(), 5e-6)
    close(op.eval(x, *affine), y.detach(), 5e-6)
    for ours, t in zip(gradients(op, [x, *affine], ct), ts, strict=True):
        close(ours, t.grad, 2e-5)


def test_layer_norm_of_large_offsets_keeps_its_digits() -> None:
    x = (normal(4, 64, dtype=np.float64) + 1000).astype(np.float32)
    close(expanded(LayerNorm(1, 1e-5), x)[0], LayerNorm(1, 1e-5).eval(x), 2e-4)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_short_floats_are_widened_inside(dtype) -> None:
    """The sum of 4096 ones is 4096 and not where bfloat16 stops counting, at 256."""
    x = np.zeros((2, 4096), dtype)
    close(expanded(Softmax(1), x)[0], np.full((2, 4096), 1 / 4096), 1e-6)
    assert expanded(LogSumExp((1,)), x)[0].dtype == dtype
    close(expanded(LogSumExp((1,)), x)[0], np.full(2, np.log(4096)), 4e-3 * 9)
    y = expanded(LayerNorm(1), normal(2, 4096, dtype=dtype) + dtype(8))[0]
    assert abs(y.astype(np.float64).mean()) < 1e-2
    assert abs(y.astype(np.float64).std() - 1) < 1e-2


@pytest.mark.parametrize("index_dtype", [np.int64, np.int32, np.uint8])
def test_cross_entropy_is_pytorch_s(index_dtype) -> None:
    torch = pytest.importorskip("torch")
    logits, targets, ct = normal(6, 200, scale=20), np.array([0, 199, 5, 5, 130, 7], index_dtype), normal(6)
    t = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(t, torch.tensor(targets.astype(np.int64)), reduction="none")
    loss.backward(torch.tensor(ct))
    close(expanded(CrossEntropy(), logits, targets)[0], loss.detach(), 5e-6)
    close(CrossEntropy().eval(logits, targets), loss.detach(), 5e-6)
    grad, none = gradients(CrossEntropy(), [logits, targets], ct)
    assert none is None
    close(grad, t.grad)


def test_forward_and_gradient_share_their_row_sums() -> None:
    """What both need is one node: a step's kernels exponentiate the logits once."""
    logits, targets, ct = inputs_for([Type(float32, (8, 5)), Type(int64, (8,)), Type(float32, (8,))])
    op = CrossEntropy()
    back, _ = op.vjp(ct, op(logits, targets), logits, targets)
    ops = [n.op.name for n in Graph((logits, targets, ct), (op.expand(logits, targets), back)).nodes()]
    assert (ops.count("exp"), ops.count("sum"), ops.count("max")) == (1, 1, 1)
    assert "one_hot" not in ops

    x, w, b, ct = inputs_for([Type(float32, (8, 5)), Type(float32, (5,)), Type(float32, (5,)), Type(float32, (8, 5))])
    norm = LayerNorm(1)
    cts = norm.vjp(ct, norm(x, w, b), x, w, b)
    ops = [n.op.name for n in Graph((x, w, b, ct), (norm.expand(x, w, b), *cts)).nodes()]
    assert (ops.count("rsqrt"), ops.count("sum")) == (1, 6)


def test_errors_name_the_values() -> None:
    f, i = Type(float32, (4, 3)), Type(int64, (4,))
    for message, wrong in {
        "softmax: does not take int64": lambda: Softmax(0).infer(i),
        "softmax: axes (2,) do not fit f32[4,3]": lambda: Softmax(2).infer(f),
        "layer_norm: cannot normalise 3 trailing axes of f32[4,3]. Allowed: 1..2.": lambda: LayerNorm(3).infer(f),
        "layer_norm: weight f32[4,3] does not fit f32[4,3]; its shape must be [3]": lambda: LayerNorm(1).infer(f, f),
        "layer_norm: operands have dtypes float32, bfloat16": lambda: LayerNorm(1).infer(f, Type(bfloat16, (3,))),
        "cross_entropy: targets have dtype float32": lambda: CrossEntropy().infer(f, Type(float32, (4,))),
        "cross_entropy: logits f32[4,3] and targets i64[3] do not fit": lambda: CrossEntropy().infer(
            f, Type(int64, (3,))
        ),
        "cross_entropy: logits f32[4,0] have no classes": lambda: CrossEntropy().infer(Type(float32, (4, 0)), i),
    }.items():
        with pytest.raises((ShapeError, DTypeError), match=re.escape(message)):
            wrong()
    assert CrossEntropy().infer(*types_of([normal(4, 3), np.zeros(4, int)])) == Type(float32, (4,))
