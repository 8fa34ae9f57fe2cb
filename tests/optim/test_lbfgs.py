"""L-BFGS against PyTorch's, evaluation by evaluation; saved and loaded; with a compiled closure."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle import nn, optim
from treadle.core import CheckpointError, ConfigError, GradientError, TraceError
from treadle.optim.line_search import Point, cubic_minimum, strong_wolfe

SETTINGS: list[dict[str, Any]] = [
    {},
    {"lr": 0.3, "max_iter": 4},
    {"max_iter": 1},
    {"history_size": 2, "lr": 0.5},
    {"line_search_fn": "strong_wolfe"},
    {"line_search_fn": "strong_wolfe", "lr": 0.01, "max_iter": 6},
    {"line_search_fn": "strong_wolfe", "lr": 10.0, "history_size": 3},
    {"line_search_fn": "strong_wolfe", "max_eval": 3},
    {"tolerance_grad": 0.5},
    {"tolerance_change": 0.1},
    {"max_eval": 2, "lr": 0.2},
]
# The Rosenbrock function, a bowl, and one with curvature of both signs.
LOSSES = [
    lambda x, y: (100 * (y - x * x) ** 2 + (1 - x) ** 2).sum() / 10,
    lambda x, y: (3 * x * x + x * y + y * y).sum(),
    lambda x, y: (x * x - 0.3 * x**4 + 0.05 * x**6 + (y - 1) ** 4).sum(),
]
START = [np.array([-0.6, 0.4]), np.array([[0.8, 0.3]])]


def problem(of: Any, loss: Any, settings: dict[str, Any]) -> tuple[list[Any], Any, Any]:
    """Return parameters, the optimiser and the closure in treadle or PyTorch."""
    if of is td:
        params: list[Any] = [nn.Parameter(a) for a in START]
    else:
        params = [torch.nn.Parameter(torch.tensor(a)) for a in START]
    opt = of.optim.LBFGS(params, **settings)

    def closure() -> Any:
        opt.zero_grad()
        value = loss(*params)
        value.backward()
        return value

    return params, opt, closure


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_steps_are_pytorchs(loss: Any, settings: dict[str, Any]) -> None:
    ours, opt, closure = problem(td, loss, settings)
    theirs, peer, their_closure = problem(torch, loss, settings)
    for _ in range(3):
        found, want = float(opt.step(closure)), peer.step(their_closure).item()
        np.testing.assert_allclose(found, want, rtol=1e-6, atol=1e-12)
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-6, atol=1e-8)
        if not np.isfinite(found):
            return
    held = peer.state[theirs[0]]
    assert opt.memory.evaluations == held["func_evals"]
    assert opt.memory.iterations == held["n_iter"]


def test_it_finds_the_minimum_with_a_compiled_closure() -> None:
    params, opt, _ = problem(td, LOSSES[0], {"line_search_fn": "strong_wolfe", "max_iter": 60})

    @td.compile
    def closure() -> td.Tensor:
        loss = LOSSES[0](*params)
        loss.backward()
        return loss

    opt.step(closure)
    assert closure.num_compiles == 1
    for p in params:
        np.testing.assert_allclose(p.numpy().ravel(), 1, atol=1e-4)


def test_short_floats_are_moved_in_float32() -> None:
    p = nn.Parameter(td.asarray([3.0, -2.0], dtype="bfloat16"))
    opt = optim.LBFGS([p], lr=1)

    def closure() -> td.Tensor:
        opt.zero_grad()
        loss = (p.astype("float32") ** 2).sum()
        loss.backward()
        return loss

    opt.step(closure)
    np.testing.assert_allclose(p.astype("float32").numpy(), 0, atol=1e-3)


def test_it_goes_on_from_a_saved_state() -> None:
    settings = {"line_search_fn": "strong_wolfe", "max_iter": 3}
    ours, opt, closure = problem(td, LOSSES[0], settings)
    _, peer, their_closure = problem(torch, LOSSES[0], settings)
    opt.step(closure)
    peer.step(their_closure)
    again, other, other_closure = problem(td, LOSSES[0], settings)
    from_torch, third, third_closure = problem(td, LOSSES[0], settings)
    for p, q, r in zip(again, from_torch, ours, strict=True):
        p.value = q.value = r.value
    other.load_state_dict(opt.state_dict())
    third.load_state_dict(peer.state_dict())
    for o, c in ((opt, closure), (other, other_closure), (third, third_closure)):
        o.step(c)
    for p, q, r in zip(ours, again, from_torch, strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())
        np.testing.assert_allclose(p.numpy(), r.numpy(), rtol=1e-6)
    small = optim.LBFGS([nn.Parameter(td.zeros((2,)))])
    with pytest.raises(CheckpointError, match="vectors of 4 elements, the parameters 2"):
        small.load_state_dict(opt.state_dict())
    fresh = optim.LBFGS([nn.Parameter(td.zeros((2,)))])
    small.load_state_dict(fresh.state_dict())
    assert small.memory.iterations == 0


def test_a_parameter_without_a_gradient_stays() -> None:
    used, unused = nn.Parameter(td.ones((2,))), nn.Parameter(td.ones((3,)))
    opt = optim.LBFGS([used, unused])

    def closure() -> td.Tensor:
        opt.zero_grad()
        loss = (used * used).sum()
        loss.backward()
        return loss

    assert float(opt.step(closure)) == 2
    np.testing.assert_array_equal(unused.numpy(), 1)
    np.testing.assert_allclose(used.numpy(), 0, atol=1e-5)


def test_the_line_search_finds_a_point_that_keeps_the_conditions() -> None:
    def at(t: float) -> Point:
        return Point(t, (t - 3) ** 4, np.zeros(1), 4 * (t - 3) ** 3)

    for first in (0.01, 1.0, 3.0, 50.0):
        point, _ = strong_wolfe(at, at(0.0), first, 1.0, 25)
        assert point.loss <= 81 + 1e-4 * point.t * at(0.0).slope
        assert abs(point.slope) <= 0.9 * abs(at(0.0).slope)
    a, b = (Point(t, t**3 - t, np.zeros(1), 3 * t * t - 1) for t in (0.0, 2.0))
    assert cubic_minimum(a, b, 0, 2) == pytest.approx(3**-0.5)
    assert cubic_minimum(a, a, 0, 2) == 1


def test_wrong_uses_are_refused() -> None:
    p = nn.Parameter(td.ones((2,)))
    with pytest.raises(ConfigError, match=r"line_search_fn is 'x'. Allowed: None, 'strong_wolfe'"):
        optim.LBFGS([p], line_search_fn="x")
    with pytest.raises(ConfigError, match="LBFGS: got 2 groups"):
        optim.LBFGS([{"params": [p]}, {"params": [nn.Parameter(td.ones((1,)))]}])
    with pytest.raises(ConfigError, match="max_iter is 0, history_size 100"):
        optim.LBFGS([p], max_iter=0)
    with pytest.raises(ConfigError, match="optim: the learning rate is -1"):
        optim.LBFGS([p], lr=-1)
    with pytest.raises(ConfigError, match=r"step\(\) needs a closure"):
        optim.LBFGS([p]).step()
    with pytest.raises(GradientError, match="the closure left no gradients"):
        optim.LBFGS([p]).step(p.sum)
    with pytest.raises(TraceError, match=r"Compile the closure, and call step\(closure\) outside"):
        td.compile(lambda: optim.LBFGS([p]).step(p.sum))()


def schedule(count: Any) -> Any:
    return 1.0 / (1.0 + 0.1 * count)


def interrupted(line_search: str | None, save: Any) -> tuple[list[Any], list[Any]]:
    """Return parameters after eight steps, in one go and interrupted after three; `save` moves the state over."""
    settings = {"line_search_fn": line_search, "max_iter": 3, "history_size": 4, "lr": schedule}
    ours, opt, closure = problem(td, LOSSES[0], settings)
    for _ in range(3):
        opt.step(closure)
    again, other, other_closure = problem(td, LOSSES[0], settings)
    for p, q in zip(again, ours, strict=True):
        p.value = q.detach().numpy().copy()
    save(opt, other)
    for _ in range(5):
        opt.step(closure)
        other.step(other_closure)
    return ours, again


def by_cells(opt: Any, other: Any) -> None:
    """Move the state as a checkpoint does: every cell as an array, by name."""
    saved = {name: np.array(cell.value) for name, cell in opt.cells()}
    there = dict(other.cells())
    assert {n: a.shape for n, a in saved.items()} == {n: c.shape for n, c in there.items()}
    for name, cell in there.items():
        cell.value = saved[name]


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
@pytest.mark.parametrize(
    "save",
    [
        by_cells,
        lambda opt, other: other.load_state_dict(opt.state_dict()),
        lambda opt, other: other.load_state_dict(pickle.loads(pickle.dumps(opt.state_dict()))),
    ],
    ids=["cells", "state_dict", "pickled state_dict"],
)
def test_it_goes_on_bit_for_bit(line_search: str | None, save: Any) -> None:
    for p, q in zip(*interrupted(line_search, save), strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())


def test_a_copy_goes_on_by_itself() -> None:
    params, opt, closure = problem(td, LOSSES[0], {"max_iter": 3})
    opt.step(closure)
    twin = copy.deepcopy(opt)
    before = [np.array(p) for p in twin.parameters()]
    done = twin.memory.iterations
    opt.step(closure)
    assert opt.memory.iterations > done == twin.memory.iterations
    for p, q, r in zip(twin.parameters(), before, params, strict=True):
        np.testing.assert_array_equal(p.numpy(), q)
        assert (r.numpy() != q).any()


def test_what_was_learnt_before_an_error_is_kept() -> None:
    _, opt, closure = problem(td, LOSSES[0], {"max_iter": 3})
    opt.step(closure)
    calls, before = 0, opt.memory

    def failing() -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise ValueError("no more data")
        return closure()

    with pytest.raises(ValueError, match="no more data"):
        opt.step(failing)
    assert opt.memory.evaluations == before.evaluations + 3
    assert opt.memory.iterations == before.iterations + 2


def test_a_longer_history_may_be_asked_for_later() -> None:
    _, opt, closure = problem(td, LOSSES[1], {"max_iter": 2, "history_size": 1})
    opt.step(closure)
    opt.param_groups[0]["history_size"] = 5
    for _ in range(3):
        opt.step(closure)
    assert len(opt.memory.steps) > 1
