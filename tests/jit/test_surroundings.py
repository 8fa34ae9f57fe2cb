"""Variables around a compiled function: a new value compiles it anew, an equal one does not."""

import numpy as np
import pytest

import treadle as td
from treadle import nn
from treadle.jit.surroundings import surroundings

X = np.ones(3, np.float32)
SCALE = 2.0
COUNTED = 0


@td.compile
def scaled(x):
    return x * SCALE


@td.compile
def counting(x):
    global COUNTED  # noqa: PLW0603
    COUNTED += 1
    return x + 1


def nested(x):
    parts = [x * SCALE for _ in range(2)]
    return parts[0] + sum(y * COUNTED for y in parts)


def test_a_global_that_changes_compiles_anew(monkeypatch: pytest.MonkeyPatch):
    assert scaled(X).tolist() == [2.0] * 3
    before = scaled.num_compiles
    monkeypatch.setitem(globals(), "SCALE", 5.0)
    assert scaled(X).tolist() == [5.0] * 3
    assert scaled.num_compiles == before + 1
    assert scaled.reasons[-1] == "the variable SCALE was 2.0 and is 5.0"
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    assert scaled(X).tolist() == [2.0] * 3
    assert scaled.num_compiles == before + 1, "the variant of the earlier value is still there"


@pytest.mark.parametrize(
    ("first", "second"), [(1, 1.0), (0.0, -0.0), (True, 1), (1.0, float("nan")), (2.0, 3.0), (1, None)]
)
def test_enclosing_values_are_told_apart(first, second):
    value = first
    f = td.compile(lambda x: (x + 1, value))
    assert f(X)[1] is first
    value = second
    assert f(X)[1] is second
    assert f.num_compiles == 2
    value = first
    assert f(X)[1] is first
    assert f.num_compiles == 2


def test_equal_values_and_nan_compile_once():
    value = float("nan")
    f = td.compile(lambda x: x + value)
    assert np.isnan(f(X).numpy()).all()
    value = float("nan")
    f(X)
    assert f.num_compiles == 1


def test_models_tensors_and_functions_are_followed():
    model, offset = nn.Linear(3, 2), td.ones((2,))

    def double(y):
        return y * 2

    def triple(y):
        return y * 3

    after = double

    @td.compile
    def f(x):
        return after(model(x) + offset)

    def check() -> None:
        want = np.asarray(model.weight) @ X + np.asarray(model.bias) + np.asarray(offset)
        np.testing.assert_allclose(f(X).numpy(), after(want), rtol=1e-5)

    check()
    model = nn.Linear(3, 2)
    check()
    assert f.reasons[-1] == "the variable model is another Linear than before"
    offset = td.zeros((2,))
    check()

    after = triple
    check()
    assert f.num_compiles == 4


def test_what_a_function_assigns_itself_is_not_watched():
    before = counting.num_compiles
    counting(X)
    counting(X)
    assert counting.num_compiles == before + 1


def test_variables_are_found():
    assert [v.name for v in surroundings(nested)] == ["COUNTED", "SCALE"], "modules and builtins are left out"
    assert surroundings(np.sin) == []
    if X is None:
        missing = 1

    def early():
        return missing

    assert surroundings(early) == []
