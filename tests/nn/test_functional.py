"""The functions against PyTorch's: values and gradients, and the errors of wrong input."""

import math

import numpy as np
import pytest

import treadle as td
from treadle import nn
from treadle.core import ConfigError, DTypeError, IndexRangeError, ShapeError
from treadle.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def compare(ours, theirs, *arrays: np.ndarray, rtol: float = 2e-5, atol: float = 2e-6) -> None:
    """Assert that both give the same value and the same gradients of its weighted sum."""
    xs = [td.asarray(a).requires_grad_() for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = ours(*xs), theirs(*ts)
    assert tuple(y.shape) == tuple(z.shape)
    np.testing.assert_allclose(np.asarray(y.detach()), z.detach().numpy(), rtol=rtol, atol=atol)
    weights = draw(*y.shape, seed=9)
    (y * td.asarray(weights)).sum().backward()
    (z * torch.tensor(weights)).sum().backward()
    for x, t in zip(xs, ts, strict=True):
        np.testing.assert_allclose(np.asarray(x.grad), t.grad.numpy(), rtol=rtol, atol=atol * 5)


@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 3, 4)])
def test_linear(shape):
    compare(F.linear, TF.linear, draw(*shape), draw(3, 4, seed=1), draw(3, seed=2))
    compare(F.linear, TF.linear, draw(*shape), draw(3, 4, seed=1))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (F.relu, TF.relu),
        (F.gelu, TF.gelu),
        (lambda x: F.gelu(x, approximate="tanh"), lambda x: TF.gelu(x, approximate="tanh")),
        (F.silu, TF.silu),
        (F.sigmoid, torch.sigmoid),
        (F.tanh, torch.tanh),
        (F.softplus, TF.softplus),
        (lambda x: F.softplus(x, 3, 0.2), lambda x: TF.softplus(x, 3, 0.2)),
        (lambda x: F.softplus(x * 0), lambda x: TF.softplus(x * 0)),
        (F.softmax, lambda x: TF.softmax(x, -1)),
        (lambda x: F.softmax(x, 0), lambda x: TF.softmax(x, 0)),
        (F.log_softmax, lambda x: TF.log_softmax(x, -1)),
    ],
)
def test_activations(ours, theirs):
    compare(ours, theirs, draw(6, 7) * 3)


def test_relu_at_its_corner():
    x = td.asarray(np.array([-1.0, 0.0, math.nan, 2.0], np.float32)).requires_grad_()
    y = F.relu(x)
    np.testing.assert_array_equal(np.asarray(y.detach()), [0, 0, math.nan, 2])
    y.sum().backward()
    assert np.asarray(x.grad)[[0, 1, 3]].tolist() == [0, 0, 1]


@pytest.mark.parametrize("shape", [(5,), (3, 5)])
def test_layer_norm(shape):
    x, w, b = draw(2, *shape), draw(*shape, seed=1), draw(*shape, seed=2)
    compare(lambda x, w, b: F.layer_norm(x, shape, w, b), lambda x, w, b: TF.layer_norm(x, shape, w, b), x, w, b)
    compare(lambda x, w: F.layer_norm(x, shape, w), lambda x, w: TF.layer_norm(x, shape, w), x, w)
    compare(lambda x: F.layer_norm(x, shape), lambda x: TF.layer_norm(x, shape), x)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(6, 5), (3, 5, 2), (5,)])
def test_cross_entropy(reduction, smoothing, shape):
    target = np.random.default_rng(3).integers(0, 5, (shape[0], *shape[2:]) if len(shape) > 1 else ())
    if target.ndim:
        target[0] = -100
    options = {"reduction": reduction, "label_smoothing": smoothing}
    compare(
        lambda x: F.cross_entropy(x, td.asarray(target), **options),
        lambda x: TF.cross_entropy(x, torch.tensor(target), **options),
        draw(*shape),
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("shape", [(6, 5), (3, 5, 2), (5,)])
def test_weighted_losses(reduction, smoothing, shape):
    target = np.random.default_rng(3).integers(0, 5, (shape[0], *shape[2:]) if len(shape) > 1 else ())
    if target.ndim:
        target[0] = 1
    weight, share = np.abs(draw(5, seed=4)), np.abs(draw(*shape, seed=5))
    options = {"reduction": reduction, "label_smoothing": smoothing}
    compare(
        lambda x, w, p: F.cross_entropy(x, p, w, **options) + F.cross_entropy(x, p, **options),
        lambda x, w, p: TF.cross_entropy(x, p, w, **options) + TF.cross_entropy(x, p, **options),
        draw(*shape), weight, share,
    )  # fmt: skip
    options["ignore_index"] = 1 if target.ndim else -100
    t = torch.tensor(target)
    compare(
        lambda x: F.cross_entropy(x, td.asarray(target), weight, **options),
        lambda x: TF.cross_entropy(x, t, torch.tensor(weight), **options),
        draw(*shape),
    )
    del options["label_smoothing"]
    compare(
        lambda x: F.nll_loss(x, td.asarray(target), weight, **options),
        lambda x: TF.nll_loss(x, t, torch.tensor(weight), **options),
        draw(*shape),
    )


def test_cross_entropy_of_large_logits():
    x = np.array([[1e4, -1e4, 0.0]], np.float32)
    assert float(F.cross_entropy(x, np.array([1]))) == 2e4
    assert float(F.cross_entropy(x, np.array([0]))) == 0


def test_other_losses():
    target = np.array([1, 0, 2])
    compare(F.mse_loss, TF.mse_loss, draw(3, 4), draw(3, 4, seed=1))
    compare(
        lambda x: F.nll_loss(F.log_softmax(x), td.asarray(target)),
        lambda x: TF.nll_loss(TF.log_softmax(x, -1), torch.tensor(target)),
        draw(3, 4),
    )
    for classes in (3, -1):
        found = np.asarray(F.one_hot(td.asarray(target), classes))
        np.testing.assert_array_equal(found, TF.one_hot(torch.tensor(target), classes))


def test_embedding():
    index = np.array([[0, 2], [2, 1]])
    for padding in (None, 2, -2):
        compare(
            lambda w, padding=padding: F.embedding(td.asarray(index), w, padding),
            lambda w, padding=padding: TF.embedding(torch.tensor(index), w, padding),
            draw(3, 4),
        )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 8, 4), (3, 8, 4), (8, 4)])
def test_attention(causal, shape):
    q, k, v = (draw(*shape, seed=i) for i in range(3))
    compare(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal),
        lambda q, k, v: TF.scaled_dot_product_attention(q, k, v, is_causal=causal),
        q, k, v,
    )  # fmt: skip


def test_attention_with_masks_and_other_sizes():
    q, k, v = draw(2, 4, 6), draw(2, 5, 6, seed=1), draw(2, 5, 3, seed=2)
    keep = np.tril(np.ones((4, 5), bool), 1)
    added = draw(2, 4, 5, seed=4)
    for mask in (keep, added):
        compare(
            lambda q, k, v, m=mask: F.scaled_dot_product_attention(q, k, v, td.asarray(m), scale=0.3),
            lambda q, k, v, m=mask: TF.scaled_dot_product_attention(q, k, v, torch.tensor(m), scale=0.3),
            q, k, v,
        )  # fmt: skip


def test_dropout():
    x = td.ones((4000,))
    generator = td.random.Generator(3)
    y = np.asarray(F.dropout(x, 0.25, generator=generator))
    assert set(np.unique(y).tolist()) == {0.0, np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.03
    assert not (np.asarray(F.dropout(x, 0.25, generator=generator)) == y).all()
    np.testing.assert_array_equal(np.asarray(F.dropout(x, 0.25, generator=generator.manual_seed(3))), y)
    np.testing.assert_array_equal(np.asarray(F.dropout(x, 0.25, training=False)), 1)
    np.testing.assert_array_equal(np.asarray(F.dropout(x, 1.0)), 0)


def one(*shape: int) -> td.Tensor:
    return td.ones(shape)


WRONG = [
    (lambda: F.linear(one(2, 3), one(4, 5)), ShapeError, r"linear: input f32\[2,3\] does not fit weight f32\[4,5\]"),
    (lambda: F.layer_norm(one(2, 3), 4), ShapeError, r"normalized_shape \[4\] is not the end of .* \[2, 3\]"),
    (lambda: F.embedding(one(2), one(3, 2)), DTypeError, r"numbers have dtype float32\. They must be integers"),
    (lambda: F.cross_entropy(one(2, 3), td.asarray([0])), ShapeError, r"f32\[2,3\] and target i64\[1\] do not fit"),
    (lambda: F.cross_entropy(one(1, 3), one(1)), DTypeError, "targets have dtype float32"),
    (lambda: F.cross_entropy(one(1, 3), td.asarray([0]), reduction="avg"), ConfigError, "Allowed: none, mean, sum"),
    (lambda: F.cross_entropy(one(1, 3), td.asarray([0]), one(2)), ShapeError, r"f32\[2\] does not fit 3 classes"),
    (lambda: F.embedding(td.asarray([0]), one(3, 2), 3), IndexRangeError, "padding_idx 3 is out of range for 3 rows"),
    (lambda: F.gelu(one(1), approximate="fast"), ConfigError, r"approximate is 'fast'\. Allowed: none, tanh"),
    (lambda: F.dropout(one(1), 1.5), ConfigError, r"p is 1\.5\. It is a probability"),
    (lambda: F.mse_loss(one(2), one(3)), ShapeError, r"input f32\[2\] and target f32\[3\] differ in shape"),
    (lambda: F.scaled_dot_product_attention(one(2, 3), one(2, 4), one(2, 4)), ShapeError, "do not fit"),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG)
def test_wrong_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_target_or_id_out_of_range_is_named():
    with pytest.raises(IndexRangeError, match=r"index 7 is out of range for 3 classes\. Allowed: 0\.\.2"):
        float(F.cross_entropy(td.ones((2, 3)), td.asarray([0, 7])))
    with pytest.raises(IndexRangeError, match=r"index -1 is out of range"):
        F.embedding(td.asarray([0, -1]), td.ones((3, 2))).numpy()

    @td.compile
    def look(ids):
        return nn.functional.embedding(ids, td.ones((3, 2)))

    look(np.array([0, 2]))
    with pytest.raises(IndexRangeError, match=r"index 3 is out of range"):
        look(np.array([0, 3]))
