"""Softmax and its kin against PyTorch's; the distribution of Gumbel's draws."""

import numpy as np
import pytest

import treadle as td
from tests.nn.functional.peer import agree, draw
from treadle.core import ShapeError
from treadle.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional
NAMES = ["softmax", "log_softmax", "softmin"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("shape", "dim"), [((5,), 0), ((3, 4), 1), ((3, 4), 0), ((2, 3, 4), -2), ((), 0), ((0, 3), 1)])
def test_values_and_gradients(name, shape, dim):
    agree(lambda x: getattr(F, name)(x, dim), lambda x: getattr(TF, name)(x, dim), draw(*shape) * 3)


@pytest.mark.parametrize("name", NAMES)
def test_large_numbers(name):
    x = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]], np.float32)
    agree(lambda x: getattr(F, name)(x, -1), lambda x: getattr(TF, name)(x, -1), x)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4), (2, 2, 3, 4)], ids=str)
@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
def test_the_axis_that_is_not_given(name, shape):
    agree(getattr(F, name), getattr(TF, name), draw(*shape))


@pytest.mark.parametrize("name", NAMES)
def test_dtype(name):
    x = draw(3, 4)
    found = getattr(F, name)(td.asarray(x).astype("float16"), 1, dtype=td.float64)
    expected = getattr(TF, name)(torch.tensor(x).half(), 1, dtype=torch.float64)
    assert found.dtype.name == "float64"
    np.testing.assert_allclose(np.asarray(found), expected.numpy(), rtol=1e-12)
    whole = getattr(F, name)(td.asarray([[1, 2]]), dim=-1, dtype="float32")
    np.testing.assert_allclose(
        np.asarray(whole), getattr(TF, name)(torch.tensor([[1.0, 2.0]]), dim=-1).numpy(), rtol=1e-6
    )


def test_gumbel_softmax_draws_from_softmax():
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    many = np.broadcast_to(logits, (20_000, 3)).copy()
    drawn = np.asarray(F.gumbel_softmax(many, hard=True, generator=td.random.Generator(0)))
    assert set(np.unique(drawn).tolist()) == {0.0, 1.0}
    np.testing.assert_array_equal(drawn.sum(-1), 1)
    np.testing.assert_allclose(drawn.mean(0), [0.5, 0.3, 0.2], atol=0.015)
    soft = np.asarray(F.gumbel_softmax(many, tau=0.5, generator=td.random.Generator(0)))
    np.testing.assert_allclose(soft.sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(soft.argmax(-1), drawn.argmax(-1))


def test_hard_gumbel_softmax_has_the_gradient_of_the_soft_one():
    x, weights = draw(4, 5), draw(4, 5, seed=1)
    found = []
    for hard in (False, True):
        leaf = td.asarray(x).requires_grad_()
        row = F.gumbel_softmax(leaf, 0.7, hard, dim=0, generator=td.random.Generator(5))
        (row * weights).sum().backward()
        found.append(np.asarray(leaf.grad))
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0]).max() > 0.01


def test_an_axis_out_of_range_is_named():
    with pytest.raises(ShapeError, match="axis 2"):
        F.softmax(td.ones((2, 3)), 2)
