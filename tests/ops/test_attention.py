"""Attention and its gradient: against PyTorch, all dtypes, both results differentiated, more columns than rows."""

import re

import ml_dtypes
import numpy as np
import pytest

from tests.ops.apply import expanded, gradients
from treadle.core import ShapeError, Type, float32, float64
from treadle.ops.attention import Attention, AttentionGrad


def heads(x: np.ndarray) -> np.ndarray:
    """[B, H, T, D] as [B, T, H, D] or back."""
    return np.swapaxes(x, 1, 2)


def normal(*shape: int, dtype=np.float32) -> np.ndarray:
    return np.random.normal(size=shape).astype(dtype)


def close(a, b, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=tolerance, atol=tolerance)


SHAPES = [(2, 3, 7, 7, 4), (1, 1, 1, 1, 1), (1, 2, 5, 9, 3), (1, 2, 9, 5, 3), (0, 2, 3, 3, 4)]


def operands(shape, dtype=np.float32):
    b, h, t, s, d = shape
    return normal(b, h, t, d, dtype=dtype), normal(b, h, s, d, dtype=dtype), normal(b, h, s, d, dtype=dtype)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_pytorch_s(shape, causal) -> None:
    torch = pytest.importorskip("torch")
    arrays = operands(shape)
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    op = Attention(causal, 0.3)
    scores = ts[0] @ ts[1].mT * 0.3
    if causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), float("-inf"))
    out, lse = (torch.softmax(scores, -1) @ ts[2]).transpose(1, 2), torch.logsumexp(scores, -1)
    for result in (expanded(op, *arrays), op.eval(*arrays)):
        close(result[0], out.detach())
        close(result[1], lse.detach())
    ct_out, ct_lse = normal(*out.shape), normal(*lse.shape)
    for cts in ((ct_out, None), (None, ct_lse), (ct_out, ct_lse)):
        wanted = torch.autograd.grad(
            [r for r, ct in zip((out, lse), cts, strict=True) if ct is not None],
            ts,
            [torch.tensor(ct) for ct in cts if ct is not None],
            retain_graph=True,
            allow_unused=True,
        )
        for ours, theirs in zip(gradients(op, arrays, *cts), wanted, strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                close(ours, theirs, 2e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_s_expansion_is_its_reference(shape, causal) -> None:
    q, k, v = operands(shape)
    out, lse = Attention(causal, 0.5).eval(q, k, v)
    op, ct = AttentionGrad(causal, 0.5), normal(*out.shape)
    for ours, reference in zip(expanded(op, q, k, v, out, lse, ct), op.eval(q, k, v, out, lse, ct), strict=True):
        close(ours, reference)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("missing", [None, 0, 1, 2])
def test_second_derivatives_are_pytorch_s(causal, missing) -> None:
    """The gradient op as a function of all six operands, out and lse independent of q, k and v."""
    torch = pytest.importorskip("torch")
    q, k, v = operands((1, 2, 5, 5, 3), np.float64)
    arrays = [q, k, v, *Attention(causal, 0.5).eval(q, k, v), heads(normal(*q.shape, dtype=np.float64))]
    tq, tk, tv, wide_out, lse, wide_ct = ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    out, ct = wide_out.transpose(1, 2), wide_ct.transpose(1, 2)
    scores = tq @ tk.mT * 0.5
    if causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), float("-inf"))
    p = torch.exp(scores - lse[..., None])
    ds = p * (ct @ tv.mT - (ct * out).sum(-1, keepdim=True)) * 0.5
    results = [x.transpose(1, 2) for x in (ds @ tk, ds.mT @ tq, p.mT @ ct)]
    op = AttentionGrad(causal, 0.5)
    for ours, theirs in zip(op.eval(*arrays), results, strict=True):
        close(ours, theirs.detach(), 1e-12)
    cts = [None if missing == n else heads(normal(*q.shape, dtype=np.float64)) for n in range(3)]
    loss = sum((r * torch.tensor(c)).sum() for r, c in zip(results, cts, strict=True) if c is not None)
    for ours, theirs in zip(gradients(op, arrays, *cts), torch.autograd.grad(loss, ts), strict=True):
        close(ours, theirs, 1e-11)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_dtypes(dtype) -> None:
    q, k, v = operands((2, 2, 6, 6, 8), dtype)
    op = Attention(True, 8**-0.5)
    out, lse = expanded(op, q, k, v)
    assert out.dtype == dtype
    assert lse.dtype == (np.float64 if dtype is np.float64 else np.float32)
    reference, reference_lse = op.eval(q, k, v)
    close(out, reference, {np.float16: 2e-3, np.float64: 1e-12}.get(dtype, 2e-2))
    close(lse, reference_lse)
    assert op.infer(*[Type(float64, (1, 1, 2, 2))] * 3)[1].dtype is float64


def test_large_scores_do_not_overflow() -> None:
    q, k, v = (100 * x for x in operands((1, 1, 8, 8, 16)))
    out, lse = expanded(Attention(True, 1.0), q, k, v)
    assert np.isfinite(out).all()
    assert np.isfinite(lse).all()
    assert lse.max() > 1e4


def test_a_causal_row_does_not_see_later_columns() -> None:
    q, k, v = operands((1, 1, 6, 6, 4))
    before = expanded(Attention(True, 0.5), q, k, v)
    k[:, :, 4:], v[:, :, 4:] = 7, np.nan
    after = expanded(Attention(True, 0.5), q, k, np.nan_to_num(v))
    np.testing.assert_array_equal(before[0][:, :4], after[0][:, :4])
    np.testing.assert_array_equal(before[1][:, :, :4], after[1][:, :, :4])


def test_errors_name_the_types() -> None:
    q, k, inside = (Type(float32, shape) for shape in ((1, 2, 3, 4), (1, 2, 3, 5), (1, 3, 2, 4)))
    with pytest.raises(ShapeError, match=re.escape("attention: q f32[1,2,3,4], k f32[1,2,3,5]")):
        Attention(True, 1.0).infer(q, k, k)
    with pytest.raises(ShapeError, match=re.escape("attention_grad: result f32[1,3,2,4], logsumexp f32[1,2]")):
        AttentionGrad(True, 1.0).infer(q, q, q, inside, Type(float32, (1, 2)), inside)
