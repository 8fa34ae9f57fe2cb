"""Hooks on tensors and cells, and gradients of what is no leaf, against PyTorch's; eager and compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle import nn, optim

X = np.array([1.0, -2.0, 3.0], np.float32)


def run(of: Any) -> list[Any]:
    """Return what hooks saw, and gradients."""
    x = (td.asarray(X) if of is td else torch.tensor(X)).requires_grad_()
    seen: list[Any] = []
    h = x * x
    h.register_hook(lambda g: seen.append(g.tolist()))
    h.register_hook(lambda g: g * 2)
    h.retain_grad()
    removed = h.register_hook(lambda g: g * 100)
    removed.remove()
    x.register_hook(lambda g: g + 1)
    x.retain_grad()
    (h * h + h * x).sum().backward()
    return [seen, h.grad.tolist(), x.grad.tolist(), x.is_leaf, h.is_leaf]


def test_hooks_of_tensors_are_pytorchs_but_a_retained_gradient_is_that_of_its_place() -> None:
    ours, theirs = run(td), run(torch)
    assert ours[0] == theirs[0]
    # Uses after x.register_hook only: x * x was before.
    assert ours[3:] == theirs[3:] == [True, False]
    np.testing.assert_allclose(ours[1], theirs[1])


def test_a_hook_of_a_leaf_that_is_computed_later_stays() -> None:
    x = (td.asarray(X) * 2).requires_grad_()
    x.register_hook(lambda g: g * 3)
    x.realize()
    x.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 3)


def test_retained_gradients_survive_that_the_tensor_is_computed() -> None:
    x = td.asarray(X).requires_grad_()
    h = x * 2
    h.retain_grad()
    h.retain_grad()
    h.numpy()
    (h * h).sum().backward()
    np.testing.assert_array_equal(h.grad.numpy(), 4 * X)
    np.testing.assert_array_equal(x.grad.numpy(), 8 * X)


def test_hooks_of_parameters_are_pytorchs() -> None:
    def trained(of: Any) -> list[Any]:
        p = of.nn.Parameter(td.asarray(X) if of is td else torch.tensor(X))
        opt = of.optim.SGD([p], lr=0.1, momentum=0.5)
        first = p.register_hook(lambda g: g.clip(-1.0, 1.0))
        p.register_hook(lambda g: g * 2)
        found: list[Any] = []
        for step in range(4):
            if step == 2:
                first.remove()
                first.remove()
            opt.zero_grad()
            (p * p * p + p).sum().backward()
            found.append(p.grad.tolist())
            opt.step()
        return [*found, p.detach().tolist()]

    np.testing.assert_allclose(trained(td), trained(torch), rtol=1e-6)


def test_a_hook_of_a_parameter_in_a_compiled_step() -> None:
    p = nn.Parameter(X)
    opt = optim.SGD([p], lr=1.0)

    @td.compile
    def step() -> td.Tensor:
        opt.zero_grad()
        loss = p.sum()
        loss.backward()
        opt.step()
        return loss

    step()
    with p.register_hook(lambda g: g * 5):
        step()
        step()
        assert step.num_compiles == 2
        assert "has other hooks than before" in step.reasons[0]
    step()
    np.testing.assert_array_equal(p.numpy(), X - 12)


def test_a_hook_of_a_parameter_in_a_loop() -> None:
    p = nn.Parameter(X)
    p.register_hook(lambda g: g * 2)
    total, _ = td.scan(lambda carry, _: (carry * p, None), td.ones((3,)), None, length=3)
    total.sum().backward()
    np.testing.assert_allclose(p.grad.numpy(), 6 * X * X, rtol=1e-6)


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda: td.ones((2,)).register_hook(print), td.GradientError, "register_hook: this tensor .* takes no part"),
        (lambda: td.ones((2,)).retain_grad(), td.GradientError, "retain_grad: this tensor .* takes no part"),
        (lambda: nn.Buffer(X).register_hook(print), td.GradientError, "collects no gradient"),
        (lambda: nn.Parameter(X).register_hook(3), td.ConfigError, "a int is no hook"),
        (lambda: td.compile(nn.Parameter(X).register_hook)(None), td.TraceError, "Do it before the call"),
    ],
)
def test_misuse_is_said_clearly(act: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        act()
