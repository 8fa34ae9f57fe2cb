"""Parameters and buffers changed in place, against PyTorch's; eager and in compiled functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle import nn

X = np.array([[1.0, -2.0, 3.0], [0.5, 0.0, -1.0]], np.float32)
ROW = np.array([1.0, 2.0, 4.0], np.float32)


def put(p: Any, key: Any, value: Any) -> None:
    p[key] = value


CHANGES: list[Callable[[Any, Any], Any]] = [
    lambda p, row: p.add_(row),
    lambda p, row: p.add_(row, alpha=0.5),
    lambda p, row: p.sub_(row, alpha=2),
    lambda p, row: p.sub_(3),
    lambda p, row: p.mul_(0.9).add_(row, alpha=1 - 0.9),
    lambda p, row: p.div_(row),
    lambda p, row: p.copy_(row),
    lambda p, row: p.fill_(3),
    lambda p, row: p.zero_(),
    lambda p, row: p.clamp_(-0.5, 0.5),
    lambda p, row: p.clamp_(min=0.25),
    lambda p, row: p.lerp_(row, 0.25),
    lambda p, row: put(p, 0, row),
    lambda p, row: put(p, (slice(None), 1), 5.0),
    lambda p, row: put(p, (1, slice(0, 2)), row[:2]),
    lambda p, row: put(p, p < 0, 0.0),
]


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_pytorchs(change: Callable[[Any, Any], Any]) -> None:
    theirs = torch.nn.Parameter(torch.tensor(X))
    with torch.no_grad():
        change(theirs, torch.tensor(ROW))
    for through in (lambda p: p, lambda p: p.data):
        for compiled in (False, True):
            ours = nn.Parameter(X)

            def run(row: Any, p: Any = ours, through: Any = through) -> Any:
                change(through(p), td.asarray(row))
                return p.sum()

            (td.compile(run) if compiled else run)(ROW)
            np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-6)
            assert ours.requires_grad


def test_what_is_changed_in_place_stays_the_same_object_and_dtype() -> None:
    p = nn.Parameter(td.asarray(X).astype("bfloat16"))
    held = p
    p += ROW
    p.data *= 2
    p.data = p.data - 1
    assert p is held
    assert p.dtype.name == "bfloat16"
    assert p.add_(1) is p


def test_data_has_no_gradient() -> None:
    p = nn.Parameter(X)
    assert not p.data.requires_grad
    assert not (p.data * p.data).requires_grad
    (p * p.data).sum().backward()
    np.testing.assert_array_equal(p.grad.numpy(), X)
    nn.init.constant_(p.data, 2.0)
    np.testing.assert_array_equal(p.numpy(), 2)


def test_buffers_in_a_compiled_step() -> None:
    class Queue(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("rows", td.zeros((4, 3)))
            self.register_buffer("mean", td.zeros((3,)))

        def forward(self, x: Any) -> Any:
            self.mean.mul_(0.5).add_(x.mean(axis=0), alpha=0.5)
            self.rows[1:3] = x
            return self.mean.sum()

    queue = Queue()
    run = td.compile(queue)
    for _ in range(2):
        run(X)
    np.testing.assert_allclose(queue.mean.numpy(), 0.75 * X.mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(queue.rows.numpy()[1:3], X)
    assert run.num_compiles == 1


def test_tensors_do_not_change() -> None:
    with pytest.raises(AttributeError, match="Tensors do not change"):
        td.asarray(X).add_(1)
    with pytest.raises(TypeError, match=r"x = x\.at\[0\]\.set\(value\)"):
        td.asarray(X)[0] = 1
    with pytest.raises(AttributeError, match=r"nn\.init\.normal_\(parameter\)"):
        nn.Parameter(X).data.normal_(0, 1)
