"""`td.scan` against the Python loop it stands for: values, gradients, gradients of gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import treadle as td
from treadle import nn
from treadle.core import ShapeError, TraceError, config, flatten, unflatten

Array = np.ndarray[Any, Any]


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32) * np.float32(0.5)


def python_loop(f: Callable[..., Any], init: Any, xs: Any, length: int, reverse: bool) -> Any:
    """What scan means, one turn after the other."""
    leaves, structure = flatten(xs)
    stacked: list[list[Any]] = []
    inside: Any = None
    turns = range(length)
    for t in reversed(turns) if reverse else turns:
        init, y = f(init, unflatten(structure, [x[t] for x in leaves]))
        found, inside = flatten(y)
        stacked.append(found)
    if reverse:
        stacked.reverse()
    return init, unflatten(inside, [td.stack(list(ys)) for ys in zip(*stacked, strict=True)])


def tanh_turn(w: Any, u: Any, b: Any) -> Callable[..., Any]:
    """A recurrence with an input projection, a bias, an output that is read and one that is only summed."""

    def turn(c: Any, x: Any) -> Any:
        n = td.tanh(x @ u.mT + c @ w + b)
        return n, {"y": n * 2.0, "s": td.sum(n)}

    return turn


def pair_turn(w: Any, u: Any, b: Any) -> Callable[..., Any]:
    """Two carries that change places, an accumulated product and a count."""

    def turn(c: Any, x: Any) -> Any:
        a, d, total, k = c
        n = td.sin(a * b) + x @ u.mT
        return (d, n, total + n.mT @ a, k + 1.0), (a, n @ w)

    return turn


def start(kind: str) -> Any:
    h = draw(3, 5, seed=1)
    return h if kind == "tanh" else (h, draw(3, 5, seed=2), draw(5, 5, seed=3), np.float32(0))


TURNS = {"tanh": tanh_turn, "pair": pair_turn}


def leaves_of(tree: Any) -> list[Array]:
    return [t.numpy() for t in flatten(tree)[0]]


def close(found: Any, wanted: Any, tolerance: float = 2e-5) -> None:
    first, second = leaves_of(found), leaves_of(wanted)
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(b).max(initial=0))))


def both(kind: str, length: int, reverse: bool) -> tuple[Callable[..., Any], Callable[..., Any], list[Any]]:
    """Return scan and the Python loop as functions of (start, xs, w, u, b), and these."""
    operands = [start(kind), draw(length, 3, 4), draw(5, 5), draw(5, 4), draw(5)]

    def scanned(init: Any, xs: Any, *ws: Any) -> Any:
        return td.scan(TURNS[kind](*ws), init, xs, reverse=reverse)

    def looped(init: Any, xs: Any, *ws: Any) -> Any:
        return python_loop(TURNS[kind](*ws), init, xs, length, reverse)

    leaves, structure = flatten(operands)
    return scanned, looped, unflatten(structure, [td.asarray(leaf) for leaf in leaves])


def loss(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: sum((td.sum(td.sin(t)) for t in flatten(f(*args))[0]), td.asarray(0.0))


def squares(g: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: sum((td.sum(t * t) for t in flatten(g(*args))[0]), td.asarray(0.0))


EVERY = tuple(range(5))
cases = pytest.mark.parametrize(
    ("kind", "length", "reverse"), [(k, n, r) for k in TURNS for n in (1, 2, 7) for r in (False, True)]
)


@cases
def test_values(kind: str, length: int, reverse: bool) -> None:
    scanned, looped, args = both(kind, length, reverse)
    wanted = looped(*args)
    close(scanned(*args), wanted)
    close(td.compile(scanned)(*args), wanted)


@cases
def test_gradients(kind: str, length: int, reverse: bool) -> None:
    scanned, looped, args = both(kind, length, reverse)
    wanted = td.grad(loss(looped), EVERY)(*args)
    close(td.grad(loss(scanned), EVERY)(*args), wanted, 1e-4)
    close(td.compile(td.grad(loss(scanned), EVERY))(*args), wanted, 1e-4)


@pytest.mark.parametrize("kind", TURNS)
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_gradients(kind: str, reverse: bool) -> None:
    scanned, looped, args = both(kind, 4, reverse)
    wanted = td.grad(squares(td.grad(loss(looped), EVERY)), EVERY)(*args)
    close(td.grad(squares(td.grad(loss(scanned), EVERY)), EVERY)(*args), wanted, 1e-3)


@pytest.mark.parametrize("reverse", [False, True])
def test_jvp(reverse: bool) -> None:
    scanned, looped, args = both("tanh", 4, reverse)
    tangents = [td.asarray(draw(*a.shape, seed=9)) for a in args]
    close(td.jvp(scanned, args, tangents), td.jvp(looped, args, tangents), 1e-4)


@pytest.mark.parametrize("reverse", [False, True])
def test_no_turns_at_all(reverse: bool) -> None:
    scanned, _, args = both("tanh", 0, reverse)
    last, ys = scanned(*args)
    np.testing.assert_array_equal(last.numpy(), args[0].numpy())
    assert (ys["y"].shape, ys["s"].shape) == ((0, 3, 5), (0,))
    grads = td.grad(lambda *a: td.sum(scanned(*a)[0]), EVERY)(*args)
    np.testing.assert_array_equal(grads[0].numpy(), np.ones((3, 5)))
    assert not any(g.numpy().any() for g in grads[1:])


def test_without_xs_and_without_results() -> None:
    last, ys = td.scan(lambda c, _: (c * 2.0, None), td.asarray(1.0), None, length=5)
    assert float(last) == 32.0
    assert ys is None


def test_empty_slices() -> None:
    last, ys = td.scan(lambda c, x: (c + x, c * x), td.zeros((0, 3)), td.zeros((4, 0, 3)))
    assert (last.numpy().shape, ys.numpy().shape) == ((0, 3), (4, 0, 3))


@pytest.mark.parametrize("dtype", ["int32", "bool", "float16", "bfloat16", "float64"])
def test_dtypes(dtype: str) -> None:
    values = np.array([[1, 0, 1], [0, 1, 1]])
    x = td.astype(td.asarray(values), dtype)

    def turn(c: Any, v: Any) -> Any:
        return (td.logical_or(c, v) if dtype == "bool" else c + v), c

    last, ys = td.scan(turn, td.zeros((3,), dtype=dtype), x)
    folded = values.any(0) if dtype == "bool" else values.sum(0)
    np.testing.assert_array_equal(td.astype(last, "float32").numpy(), folded)
    np.testing.assert_array_equal(td.astype(ys, "float32").numpy(), [[0, 0, 0], values[0]])


def test_what_it_returns_and_what_it_reads_may_be_the_same() -> None:
    x = td.asarray(draw(4, 3))
    (a, b), ys = td.scan(lambda c, v: ((c[1], v), (c[0], c[1], v, v, 1.0)), (x[0], x[1]), x)
    close((a, b), (x[2], x[3]))
    close(ys[2:4], (x, x))
    close(ys[0], td.stack([x[0], x[1], x[0], x[1]]))
    np.testing.assert_array_equal(ys[4].numpy(), np.ones(4))


def test_sums_that_nothing_in_the_loop_reads_are_exact_where_floats_are() -> None:
    x = td.asarray(np.arange(12.0, dtype=np.float32).reshape(4, 3))
    total, _ = td.compile(lambda x: td.scan(lambda c, v: (c + v * 2.0, None), td.ones((3,)), x))(x)
    np.testing.assert_array_equal(total.numpy(), 1 + 2 * x.numpy().sum(0))


def test_several_loops_and_loops_in_loops() -> None:
    x, w = td.asarray(draw(3, 4, 2)), td.asarray(draw(2, 2))

    def inner(loop: Callable[..., Any], c: Any, rows: Any) -> Any:
        return loop(lambda h, r: (td.tanh(h @ w + r), h), c, rows)

    def outer(loop: Callable[..., Any], x: Any, w: Any) -> Any:
        def turn(c: Any, rows: Any) -> Any:
            last, ys = inner(loop, c, rows * td.sum(w))
            return last, td.sum(ys, axis=0)

        last, ys = loop(turn, td.zeros((2,)), x)
        again, more = loop(lambda c, y: (c * 0.5 + y @ w, c), last, ys)
        return again, more, ys

    def plain(f: Any, init: Any, xs: Any) -> Any:
        return python_loop(f, init, xs, xs.shape[0], False)

    close(td.compile(lambda x, w: outer(td.scan, x, w))(x, w), outer(plain, x, w))
    wanted = td.grad(loss(lambda x, w: outer(plain, x, w)), (0, 1))(x, w)
    close(td.grad(loss(lambda x, w: outer(td.scan, x, w)), (0, 1))(x, w), wanted, 1e-4)


def test_a_gradient_inside_a_turn() -> None:
    x = td.asarray(draw(5, 3))

    def turn(c: Any, v: Any) -> Any:
        return c - 0.1 * td.grad(lambda c: td.sum((c * v - 1.0) ** 2))(c), None

    close(
        td.scan(turn, td.ones((3,)), x)[0], python_loop(lambda c, v: (turn(c, v)[0], c), td.ones((3,)), x, 5, False)[0]
    )


def test_detached_values_and_no_grad_pass_nothing_back() -> None:
    x = td.asarray(draw(4, 3))

    def f(loop: Callable[..., Any], h: Any) -> Any:
        def turn(c: Any, v: Any) -> Any:
            with td.no_grad():
                k = td.sin(c)
            return c * v + c.detach() * 2.0 + k, c

        return td.sum(loop(turn, h, x)[1])

    def plain(g: Any, init: Any, xs: Any) -> Any:
        return python_loop(g, init, xs, 4, False)

    h = td.ones((3,))
    close(td.grad(lambda h: f(td.scan, h))(h), td.grad(lambda h: f(plain, h))(h))


def test_parameters_collect_gradients_and_buffers_are_carried() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(draw(3, 3))
            self.count = nn.Buffer(np.float32(0))
            self.mean = nn.Buffer(np.zeros(3, np.float32))

        def forward(self, x: Any, *, loop: Any) -> Any:
            def turn(c: Any, v: Any) -> Any:
                self.count.value = self.count + 1.0
                self.mean.value = self.mean * 0.9 + td.mean(v, axis=0) * 0.1
                c = td.tanh(c @ self.weight + v - self.mean)
                return c, c

            return loop(turn, td.zeros((2, 3)), x)[1]

    def plain(g: Any, init: Any, xs: Any) -> Any:
        return python_loop(g, init, xs, 5, False)

    found: list[Any] = []
    x = td.asarray(draw(5, 2, 3))
    for loop, compiled in ((plain, False), (td.scan, False), (td.scan, True)):
        net = Net()

        def step(x: Any, net: Net = net, loop: Any = loop) -> Any:
            out = td.sum(net(x, loop=loop) ** 2)
            net.weight.grad = None
            out.backward()
            assert net.weight.grad is not None
            net.weight.value = net.weight - 0.1 * net.weight.grad
            return out

        run = td.compile(step) if compiled else step
        losses = [run(x), run(x)]
        found.append([*losses, net.weight.value, net.count.value, net.mean.value])
    close(found[1], found[0], 1e-4)
    close(found[2], found[0], 1e-4)
    assert float(found[2][3]) == 10.0


def test_random_numbers_differ_from_turn_to_turn() -> None:
    generator = td.random.Generator(3)

    @td.compile
    def draws() -> Any:
        return td.scan(lambda c, _: (c, td.random.uniform((4,), generator=generator)), td.asarray(0.0), None, 3)[1]

    first, second = draws().numpy(), draws().numpy()
    assert len(np.unique(np.concatenate([first, second]))) == 24


def test_an_index_out_of_range_in_a_turn_is_an_error() -> None:
    table = td.asarray(draw(5, 2))
    look = td.compile(lambda i: td.scan(lambda c, k: (c + td.take(table, k, axis=0), None), td.zeros((3, 2)), i)[0])
    good = np.array([[0, 1, 2], [4, 4, 0]])
    close(look(td.asarray(good)), td.asarray(table.numpy()[good].sum(0)))
    with pytest.raises(td.IndexRangeError, match="index 7 is out of range"):
        look(td.asarray(np.array([[0, 1, 2], [4, 7, 0]])))


def test_the_same_bits_for_any_number_of_threads() -> None:
    def f(h: Any, xs: Any, w: Any, u: Any, b: Any) -> Any:
        return td.scan(tanh_turn(w, u, b), h, xs)

    args = [draw(48, 160), draw(6, 48, 96), draw(160, 160), draw(160, 96), draw(160)]
    bits: list[list[bytes]] = []
    for threads in (1, 2, 3):
        with config(threads=threads):
            found = td.compile(td.value_and_grad(loss(f), EVERY))(*map(td.asarray, args))
            bits.append([a.tobytes() for a in leaves_of(found)])
    assert bits[0] == bits[1] == bits[2]


def test_products_leave_the_loop_and_the_plan_does_not_grow_with_the_turns() -> None:
    kernels: list[int] = []
    for length in (16, 64):
        f = td.compile(td.grad(loss(both("tanh", length, False)[0]), EVERY))
        plan = f.plan(*both("tanh", length, False)[2])
        loops = [s for s in plan.steps if s.turns is not None]
        assert len(loops) == 2, "one loop forwards, one backwards"
        products = [sum(s.kernel.kind == "matmul" for s in loop.turns.steps) for loop in loops if loop.turns]
        assert products == [1, 1], "only the product with the carry stays in a turn"
        kernels.append(len(plan.steps))
    assert kernels[0] == kernels[1]


def test_reports_know_loops() -> None:
    f = td.compile(both("tanh", 6, False)[0])
    args = both("tanh", 6, False)[2]
    explained = f.explain(*args)
    plan = f.plan(*args)
    calls = sorted(k for kernel in explained.to_dict()["kernels"] for k in kernel["calls"])
    assert calls == list(range(len(plan.calls)))
    assert any(name.startswith("turns:scan_6x") for name in plan.stages())
    assert "scan" in plan.stages()["fuse"]


def zero(c: Any, x: Any) -> Any:
    return c, x


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: td.scan(zero, td.zeros(2), None), "give length="),
        (lambda: td.scan(zero, td.zeros(2), (td.zeros((3, 1)), td.zeros((4, 1)))), r"are \[3, 4\]"),
        (lambda: td.scan(zero, td.zeros(2), td.zeros((3, 1)), length=2), r"are \[2, 3\]"),
        (lambda: td.scan(zero, td.zeros(2), td.asarray(1.0)), "no first axis"),
        (lambda: td.scan(lambda c, x: c, td.zeros(2), td.zeros((3, 2))), "must return"),
        (lambda: td.scan(lambda c, x: ((c, c), x), td.zeros(2), td.zeros((3, 2))), "nested"),
        (lambda: td.scan(lambda c, x: (c + x, x), td.zeros(2), td.zeros((3, 4, 2))), "must stay the same"),
    ],
)
def test_what_does_not_fit_is_an_error(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call()


def test_values_and_collected_gradients_of_a_turn_are_errors() -> None:
    weight = nn.Parameter(draw(2))
    with pytest.raises(TraceError):
        td.scan(lambda c, x: (c if float(c) > 0 else x, x), td.asarray(0.0), td.zeros(3))

    def turn(c: Any, x: Any) -> Any:
        td.sum(weight * x).backward()
        return c, x

    with pytest.raises(TraceError, match="backward"):
        td.scan(turn, td.asarray(0.0), td.zeros((3, 2)))
