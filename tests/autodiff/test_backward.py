"""`backward()` as PyTorch users know it: leaves, accumulation, no_grad, detach, and what is refused."""

import numpy as np
import pytest

import treadle as td
from treadle.tensor import Cell


def grad_of(owner: td.Tensor | Cell) -> list[float]:
    assert owner.grad is not None
    return owner.grad.tolist()


def test_leaves_collect() -> None:
    x = td.asarray([1.0, 2.0]).requires_grad_()
    y = td.asarray([3.0, 4.0], requires_grad=True)
    assert x.is_leaf
    loss = (x * y).sum()
    assert loss.requires_grad
    assert not loss.is_leaf
    loss.backward()
    assert grad_of(x) == [3.0, 4.0]
    assert grad_of(y) == [1.0, 2.0]
    (x * 10).sum().backward()
    assert grad_of(x) == [13.0, 14.0]
    x.grad = None
    x.sum().backward()
    assert grad_of(x) == [1.0, 1.0]
    assert x.grad is not None
    assert not x.grad.requires_grad


def test_parameters_collect() -> None:
    w = Cell(td.asarray([1.0, 2.0]), requires_grad=True)
    buffer = Cell(td.asarray([5.0, 6.0]))
    (w * w * buffer).sum().backward()
    assert grad_of(w) == [10.0, 24.0]
    assert buffer.grad is None
    w.requires_grad_(False)
    with pytest.raises(td.GradientError):
        (w * 2).sum().backward()


def test_equal_values_are_different_leaves() -> None:
    a = Cell(td.zeros(2), requires_grad=True)
    b = Cell(td.zeros(2), requires_grad=True)
    (a * 2 + b * 3).sum().backward()
    assert grad_of(a) == [2.0, 2.0]
    assert grad_of(b) == [3.0, 3.0]


def test_a_training_loop() -> None:
    rng = np.random.RandomState(0)
    data, target = rng.randn(64, 3).astype(np.float32), np.array([1.0, -2.0, 3.0], np.float32)
    w = Cell(td.zeros(3), requires_grad=True)
    losses: list[float] = []
    for _ in range(100):
        loss = ((td.asarray(data) @ w - data @ target) ** 2).mean()
        w.grad = None
        loss.backward()
        with td.no_grad():
            w.value = w - 0.1 * w.grad
        losses.append(loss.item())
    assert losses[-1] < 1e-6 * losses[0]
    np.testing.assert_allclose(w.numpy(), target, atol=1e-3)


def test_values_seen_on_the_way_change_nothing() -> None:
    x = td.asarray([1.0, 2.0], requires_grad=True)
    y = x * x
    assert y.tolist() == [1.0, 4.0]
    assert float(y.sum()) == 5.0
    y.sum().backward()
    assert grad_of(x) == [2.0, 4.0]


def test_reading_inside_grad() -> None:
    def f(x: td.Tensor) -> td.Tensor:
        y = x * x
        return y * 3 if float(y) > 1 else y

    assert td.grad(f)(td.asarray(2.0)).item() == 12.0
    assert td.grad(f)(td.asarray(0.5)).item() == 1.0


def test_no_grad_and_detach() -> None:
    w = td.asarray([2.0], requires_grad=True)
    with td.no_grad():
        y = w * 3
        assert not y.requires_grad
        assert not td.is_grad_enabled()
        with td.enable_grad():
            assert (w * 1).requires_grad
    (y * w).sum().backward()
    assert grad_of(w) == [6.0]
    w.grad = None
    (w.detach() * w * td.stop_gradient({"a": w})["a"]).sum().backward()
    assert grad_of(w) == [4.0]

    @td.no_grad()
    def inference() -> td.Tensor:
        return w * 2

    assert not inference().requires_grad
    assert (w * 2).requires_grad


def test_grad_inside_no_grad() -> None:
    with td.no_grad():
        assert td.grad(lambda x: x * x)(td.asarray(3.0)).item() == 6.0


def test_backward_through_a_gradient() -> None:
    w = Cell(td.asarray([1.0, 2.0]), requires_grad=True)
    x = td.asarray([3.0, 4.0])
    slope = td.grad(lambda x: (x * x * w).sum())(x)  # 2 x w
    assert slope.requires_grad
    (slope * slope).sum().backward()
    assert grad_of(w) == [8 * 9 * 1.0, 8 * 16 * 2.0]
    assert not td.grad(lambda x: (x * x).sum())(x).requires_grad


def test_backward_with_a_gradient_of_ones_own() -> None:
    x = td.asarray([1.0, 2.0], requires_grad=True)
    (x * x).backward(td.asarray([1.0, 10.0]))
    assert grad_of(x) == [2.0, 40.0]
    with pytest.raises(td.GradientError, match=r"backward: the gradient is f32\[3\], the tensor f32\[2\]"):
        (x * x).backward(td.ones(3))


def test_integers_and_bools_on_the_way_carry_none() -> None:
    x = td.asarray([1.5, 2.5], requires_grad=True)
    assert not x.argmax().requires_grad
    assert not (x > 2).requires_grad
    assert not x.astype(td.int32).requires_grad
    (x * x.astype(td.int32) * (x > 2)).sum().backward()
    assert grad_of(x) == [0.0, 2.0]


def test_embedding() -> None:
    table = Cell(td.ones((4, 3)), requires_grad=True)
    table[td.asarray([[1, 1], [-1, 0]])].sum().backward()
    assert table.grad is not None
    np.testing.assert_array_equal(table.grad.numpy()[:, 0], [1, 2, 0, 1])


def test_what_is_refused() -> None:
    x = td.asarray([1.0, 2.0], requires_grad=True)
    with pytest.raises(td.GradientError, match=r"backward: f32\[2\] is not a scalar. Reduce it"):
        (x * 2).backward()
    with pytest.raises(td.GradientError, match=r"does not depend on anything that requires a gradient"):
        td.ones(3).sum().backward()
    with pytest.raises(td.GradientError, match=r"requires_grad_: i64\[2\] holds integers.*astype\(td.float32\)"):
        td.asarray([1, 2]).requires_grad_()
    with pytest.raises(td.GradientError, match=r"Use detach\(\)"):
        (x * 2).requires_grad_(False)
    assert not x.requires_grad_(False).requires_grad
    x.requires_grad = True
    assert x.requires_grad


def test_a_leaf_seen_keeps_being_a_leaf() -> None:
    x = (td.asarray([1.0, 2.0]) * 2).requires_grad_()
    assert x.tolist() == [2.0, 4.0]
    (x * x).sum().backward()
    assert grad_of(x) == [4.0, 8.0]


def test_deep_graphs() -> None:
    x = td.asarray(1.0, requires_grad=True)
    y = x
    for _ in range(5000):
        y = y * 1.0001
    y.backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.item(), 1.0001**5000, rtol=1e-3)
