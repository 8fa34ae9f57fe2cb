"""What `compile` promises: when it compiles again and why, what arguments may be, what is refused and how."""

import inspect
import re
import warnings
from collections import namedtuple
from collections.abc import Callable

import numpy as np
import pytest

import treadle as td
import treadle.nn.functional as F
from treadle import Cell, GradientError, TraceError, nn

ONES = np.ones(3, np.float32)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def test_compiles_once_for_each_kind_of_arguments() -> None:
    @td.compile
    def f(x: td.Tensor, k: float = 2) -> td.Tensor:
        return x * k

    calls: list[tuple[tuple[object, ...], str]] = [
        ((ones(4),), r"argument 0 was f32\[3\] and is f32\[4\]"),
        ((np.ones(4),), r"argument 0 was f32\[4\] and is f64\[4\]"),
        ((np.ones(4), 3), "called with 1 arguments and now with 2"),
        ((np.ones(4), 4), "argument 1 was 3 and is 4"),
        ((np.ones(4), 4.0), "argument 1 was 4 and is 4.0"),
    ]
    f(ones(3))
    f(td.ones(3))
    assert (f.num_compiles, f.reasons) == (1, [])
    for count, (args, reason) in enumerate(calls, 2):
        f(*args)
        f(*args)
        assert f.num_compiles == count
        assert re.search(reason, f.reasons[-1]), f.reasons[-1]


def test_floats_are_told_apart_by_their_bits() -> None:
    @td.compile
    def sign(x: td.Tensor, k: float) -> td.Tensor:
        return td.copysign(x, td.full((3,), k))

    assert sign(ONES, 0.0).numpy().tolist() == [1.0] * 3
    assert sign(ONES, -0.0).numpy().tolist() == [-1.0] * 3
    for _ in range(3):
        sign(ONES, float("nan"))
    assert sign.num_compiles == 3


def test_values_in_containers_are_arguments_too() -> None:
    @td.compile
    def f(d: dict[str, object], *, scale: float, pair: tuple[object, object]) -> dict[str, object]:
        return {"a": d["x"] * scale, "b": [pair[0] + pair[1], "text", 3, None, True]}

    result = f({"x": ONES}, scale=3.0, pair=(td.ones(3), np.float32(4)))
    assert result["a"].numpy().tolist() == [3.0] * 3
    assert result["b"][0].numpy().tolist() == [5.0] * 3
    assert result["b"][1:] == ["text", 3, None, True]
    f({"x": ONES}, scale=3.0, pair=(td.ones(3), np.float32(7)))
    f({"x": ONES}, scale=4.0, pair=(td.ones(3), np.float32(7)))
    f(d={"x": ONES}, scale=4.0, pair=(td.ones(3), np.float32(7)))
    assert f.reasons == [
        "argument 1 was 3.0 and is 4.0",
        "the arguments are in other containers, or given by other names, than before",
    ]

    Pair = namedtuple("Pair", "a b")
    swapped = td.compile(lambda p: Pair(p.b + 1, p.a))(Pair(ONES, td.zeros(2)))
    assert type(swapped) is Pair
    assert [t.numpy().tolist() for t in swapped] == [[1.0, 1.0], [1.0] * 3]


@pytest.mark.parametrize("result", [5, None, "text", (), [], {}, (1, None)])
def test_what_is_not_a_tensor_is_returned_as_it_is(result: object) -> None:
    f = td.compile(lambda x: result)
    assert f(ONES) == result
    assert f(ONES) == result


def test_no_arguments_and_no_tensors() -> None:
    f = td.compile(lambda: (td.ones(3) + 1, 2.5))
    assert f()[0].numpy().tolist() == [2.0] * 3
    assert f()[1] == 2.5


def test_training_mode_is_guarded() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dropout = nn.Dropout(0.5)

        def forward(self, x: td.Tensor) -> td.Tensor:
            return self.dropout(x)

    model = Model()
    f = td.compile(model.__call__)
    x = ones(100)
    assert 0 in f(x).numpy()
    model.eval()
    assert f(x).numpy().tolist() == x.tolist()
    model.train()
    assert 0 in f(x).numpy()
    assert f.reasons == ["Dropout.training was True and is False"]


def test_requires_grad_is_guarded() -> None:
    p, q = nn.Parameter(td.ones(3)), nn.Parameter(td.ones(3))

    @td.compile
    def f(x: td.Tensor) -> None:
        ((p + q) * x).sum().backward()

    f(ONES)
    f(ONES)
    p.requires_grad_(False)
    f(ONES)
    assert p.grad.numpy().tolist() == [2.0] * 3
    assert q.grad.numpy().tolist() == [3.0] * 3
    assert f.reasons[-1] == "requires_grad of a Parameter f32[3] is now False"


def test_many_compiles_warn() -> None:
    f = td.compile(lambda x, k: x * k)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for k in range(3, 14):
            f(ONES, k)
    assert len(caught) == 1
    assert "compiled 9 times; last because argument 1 was 10 and is 11" in str(caught[0].message)


# --- what arguments may be


def test_arrays_of_any_layout() -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    frozen = base.copy()
    frozen.flags.writeable = False
    arrays = [
        base.T, base[::-1], base[:, ::2], base[1:3, 2:], np.asfortranarray(base), base.astype(">f4"), frozen,
        np.broadcast_to(base[0], (4, 6)), base[2, 3], base[:0], np.asarray(2, np.float32), base.view(np.matrix)[:2],
        np.frombuffer(b"\0" + base.tobytes(), np.uint8)[1:].view(np.float32),
    ]  # fmt: skip
    for array in arrays:
        np.testing.assert_array_equal(td.compile(lambda x: x * 2)(array).numpy(), np.asarray(array) * 2)


@pytest.mark.parametrize("bad", [np.array(["a"]), np.array([1j]), np.array([None]), np.zeros(2, "M8[s]")])
def test_arrays_of_other_dtypes_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(td.DTypeError, match="is not supported"):
        td.compile(lambda x: x)(bad)


def test_an_argument_that_cannot_be_compared_is_refused() -> None:
    with pytest.raises(TraceError, match=r"argument \{1, 2\} of .* is neither a tensor, an array nor hashable"):
        td.compile(lambda x: 1)({1, 2})


def test_empty_and_0d() -> None:
    f = td.compile(lambda x, y: (x.sum() + y, x * 2, td.concat([x, x]), y))
    for x, y in ((ones(0, 3), np.float32(2)), (td.ones((0, 3)), td.asarray(2.0))):
        total, double, joined, same = f(x, y)
        assert (float(total), double.shape, joined.shape, float(same)) == (2.0, (0, 3), (0, 3), 2.0)


def test_nan_and_infinity_flow() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1], np.float32)
    functions = (td.exp, td.log, td.sum, td.max, td.min, lambda x: x / x, td.softmax, lambda x: td.maximum(x, x * 0))
    f = td.compile(lambda x: [function(x) for function in functions])
    with np.errstate(all="ignore"):
        wanted = np.exp(x), np.log(x), x.sum(), x.max(), x.min(), x / x, x * np.nan, np.maximum(x, x * 0)
    for got, want in zip(f(x), wanted, strict=True):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-5)


def test_methods_and_nesting() -> None:
    class Thing:
        def __init__(self, k: float) -> None:
            self.k = td.ones(3) * k

        @td.compile
        def scaled(self, x: td.Tensor) -> td.Tensor:
            return x * self.k

    inner = td.compile(lambda x: x * 2)
    outer = td.compile(lambda x: inner(x) + inner(x + 1))
    a, b = Thing(2), Thing(5)
    assert a.scaled(ONES).numpy().tolist() == [2.0] * 3
    assert b.scaled(ONES).numpy().tolist() == [5.0] * 3
    assert outer(ONES).numpy().tolist() == [6.0] * 3
    assert inner.num_compiles == 0


# --- what is refused


def branches(x: td.Tensor) -> td.Tensor:
    if x.sum() > 0:
        return x
    return -x


def loops(x: td.Tensor) -> td.Tensor:
    for _ in range(int(x[0])):
        x = x + 1
    return x


def prints_a_number(x: td.Tensor) -> str:
    return str(x.sum().item())


@pytest.mark.parametrize("function", [branches, loops, prints_a_number])
def test_values_are_not_there_while_tracing(function: Callable[[td.Tensor], object]) -> None:
    lines, first = inspect.getsourcelines(function)
    with pytest.raises(TraceError) as caught:
        td.compile(function)(ONES)
    message = str(caught.value)
    assert f"{__file__}:{first + 1}" in message
    assert "td.where" in message
    assert "branch on it outside" in message
    assert lines


def test_a_tensor_kept_from_a_trace_has_no_value() -> None:
    kept: list[td.Tensor] = []

    @td.compile
    def f(x: td.Tensor) -> td.Tensor:
        kept.append(x * 2)
        return x

    f(ONES)
    with pytest.raises(TraceError, match=r"depends on argument f32\[3\]"):
        kept[0].numpy()


def test_boolean_masks_are_refused() -> None:
    with pytest.raises(TraceError, match=r"shape that depends on its values.*td.where"):
        td.compile(lambda x: x[x > 0])(ONES)


# --- cells made inside


def test_a_cell_of_the_call_starts_anew_every_time() -> None:
    @td.compile
    def f(x: td.Tensor) -> td.Tensor:
        a, b = Cell(td.zeros(3)), Cell(x * 2)
        a.value = a.value + b.value
        c = Cell(a.value)
        c.value = c.value * a.value
        return c.value + 1

    assert f(ONES).numpy().tolist() == [5.0] * 3
    assert f(ONES).numpy().tolist() == [5.0] * 3
    assert f(ONES * 2).numpy().tolist() == [17.0] * 3


def test_a_cell_left_behind_is_state() -> None:
    made: list[Cell] = []

    @td.compile
    def count(x: td.Tensor) -> td.Tensor:
        if not made:
            made.append(Cell(td.zeros(3)))
        made[0].value = made[0].value + x
        return made[0].value

    assert [count(ONES).numpy().tolist()[0] for _ in range(3)] == [1.0, 2.0, 3.0]
    with pytest.raises(TraceError, match=r"Cell f32\[3\] was made from a value .* outlives the call"):
        td.compile(lambda x: made.append(Cell(x * 2)) or made[-1].value)(ONES)


# --- gradients


def test_gradients_inside() -> None:
    x = np.arange(3, dtype=np.float32) + 0.5

    def f(t: td.Tensor) -> td.Tensor:
        return (td.sin(t) * t).sum()

    def second(t: td.Tensor) -> td.Tensor:
        return (td.grad(f)(t) ** 2).sum()

    value, gradient = td.compile(td.value_and_grad(f))(x)
    np.testing.assert_allclose(float(value), np.sum(np.sin(x) * x), rtol=1e-6)
    np.testing.assert_allclose(gradient.numpy(), np.cos(x) * x + np.sin(x), rtol=1e-5)
    slope = 2 * (np.cos(x) * x + np.sin(x)) * (2 * np.cos(x) - x * np.sin(x))
    np.testing.assert_allclose(td.compile(td.grad(second))(x).numpy(), slope, rtol=1e-5)
    _, tangent = td.compile(lambda a, b: td.jvp(lambda t: td.exp(t) * 2, (a,), (b,)))(x, x)
    np.testing.assert_allclose(tangent.numpy(), 2 * np.exp(x) * x, rtol=1e-5)


def test_gradients_through_a_compiled_function() -> None:
    f = td.compile(lambda x, k: (x * x * k).sum())
    x = td.ones(3).requires_grad_()
    f(x, ONES * 3).backward()
    assert x.grad.numpy().tolist() == [6.0] * 3
    assert td.grad(f)(td.ones(3), ONES * 4).numpy().tolist() == [8.0] * 3
    p = nn.Parameter(td.ones(3))
    f(p, ONES).backward()
    assert p.grad.numpy().tolist() == [2.0] * 3
    with td.no_grad():
        assert float(f(p, ONES)) == 3.0
    assert f.num_compiles == 1


def test_backward_outside_of_a_function_that_reads_parameters_says_so() -> None:
    model = nn.Linear(3, 1)
    loss = td.compile(lambda x: model(x).sum())(ones(2, 3))
    with pytest.raises(GradientError, match="does not depend on anything that requires a gradient"):
        loss.backward()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_gradient_of_a_maximum_finds_its_element(dtype: str) -> None:
    """Kernels that compute the element again must get the bits the maximum has."""

    def f(x: td.Tensor, w: td.Tensor) -> td.Tensor:
        h = td.tanh(x @ w + 0.5)
        return td.tanh(td.max(td.exp(h) * 0.3, axis=1)).sum() + td.max(h) + h.sum()

    rng = np.random.default_rng(0)
    x, w = (td.asarray(rng.standard_normal(s), dtype=dtype) for s in ((9, 5), (5, 40)))
    got = td.compile(td.grad(f))(x, w).astype("float32").numpy()
    wide = td.grad(f)(x.astype("float64"), w.astype("float64")).numpy()
    np.testing.assert_allclose(got, wide, atol={"float32": 1e-5, "float16": 0.05, "bfloat16": 0.4}[dtype])


def test_a_literal_has_the_value_its_dtype_can_hold() -> None:
    x = td.asarray([1.0, 3.0, 100.0], dtype="bfloat16")
    k = td.asarray(0.01, dtype="bfloat16")
    assert (x * 0.01).numpy().tolist() == td.compile(lambda x, k: x * k)(x, k).numpy().tolist()


def test_layers_compiled_and_not() -> None:
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((6, 10)).astype(np.float32), np.array([1, 0, 9, 3, 3, 5])

    def f(x: td.Tensor, target: td.Tensor) -> tuple[td.Tensor, ...]:
        h = F.layer_norm(x, 10)
        return F.cross_entropy(h, target), td.softmax(x, axis=0), F.gelu(h), td.logsumexp(x, axis=(0, 1))

    for got, want in zip(td.compile(f)(x, target), f(td.asarray(x), td.asarray(target)), strict=True):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-6, atol=1e-6)


def test_random_numbers_inside_are_those_outside() -> None:
    f = td.compile(lambda: td.random.normal((4,)))
    td.manual_seed(1)
    first, second = f().numpy(), f().numpy()
    assert first.tolist() != second.tolist()
    td.manual_seed(1)
    assert td.random.normal((4,)).numpy().tolist() == first.tolist()
