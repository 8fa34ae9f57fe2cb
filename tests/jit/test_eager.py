"""Eager loops: numbers that change every turn do not make a Plan every turn, and what is kept stays bounded."""

from collections.abc import Callable

import numpy as np
import pytest

import treadle as td
from treadle.jit import eager
from treadle.jit.eager import Recent


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The Plans made for eager code."""
    found: list[object] = []

    class Counted(eager.Plan):
        def __init__(self, *args: object, **settings: object) -> None:
            found.append(self)
            super().__init__(*args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(eager, "Plan", Counted)
    monkeypatch.setattr(eager, "plans", Recent[object](10_000))
    monkeypatch.setattr(eager, "forms", Recent[bool](10_000))
    return found


def test_a_changing_float_makes_two_plans(made: list[object]) -> None:
    x, want = td.asarray(np.ones(5, np.float32)), np.ones(5, np.float32)
    for i in range(3, 40):
        x = (x * 0.99 + i / 7.1).realize()
        want = want * np.float32(0.99) + np.float32(i / 7.1)
        np.testing.assert_array_equal(x.numpy(), want)
    assert len(made) == 2


def test_a_program_seen_before_keeps_its_own_plan(made: list[object]) -> None:
    for _ in range(3):
        for k in (3.0, 4.0, 5.0):
            np.testing.assert_array_equal((td.ones(3) * k).numpy(), np.full(3, k))
    assert len(made) == 2


def test_another_structure_is_another_plan(made: list[object]) -> None:
    x, y = td.asarray([1.0, 2.0]), td.asarray([1.0, 2.0, 3.0])
    td.realize(x * 3.0)
    td.realize(y * 3.0)
    td.realize(x + 3.0)
    assert len(made) == 3


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "bfloat16", "float16", "float64"])
def test_numbers_keep_their_dtype(made: list[object], dtype: str) -> None:
    x = td.asarray([1, 2, 3], dtype=dtype)
    for k in range(4, 12):
        np.testing.assert_array_equal((x * 3 + k).numpy(), (x.numpy() * 3 + k).astype(x.numpy().dtype))
    assert len(made) == 2


SLICES: list[Callable[[object, int], object]] = [
    lambda x, i: x[i],
    lambda x, i: x[:, i],
    lambda x, i: x[i, i],
    lambda x, i: x[i : i + 4, ::-1],
    lambda x, i: x[i + 4 : i : -2, 3],
    lambda x, i: x[-i - 1],
]


@pytest.mark.parametrize("part", SLICES)
def test_a_changing_position_makes_two_plans(made: list[object], part: Callable[[object, int], object]) -> None:
    x = np.arange(400, dtype=np.float32).reshape(20, 20)
    t = td.asarray(x)
    for i in range(15):
        np.testing.assert_array_equal((part(t, i) * 3).numpy(), part(x, i) * 3)  # type: ignore[attr-defined,operator]
    assert len(made) == 2


def test_indices_are_still_checked_in_a_shared_plan(made: list[object]) -> None:
    x = td.asarray(np.arange(10, dtype=np.float32))
    for k in range(3, 8):
        where = td.asarray([1, 9])
        with pytest.raises(td.IndexRangeError, match=f"index {k + 9} is out of range"):
            (x * k)[where + k].realize()
        assert (x * k)[where - k].numpy().tolist() == [k * ((1 - k) % 10), k * (9 - k)]
    assert len(made) == 4


def test_only_the_most_recent_programs_are_kept() -> None:
    recent = Recent[str](10)
    for k in range(5):
        recent.put(k, str(k), 3)
    assert [recent.get(k) for k in range(5)] == [None, None, "2", "3", "4"]
    recent.get(2)
    recent.put(9, "nine", 3)
    assert recent.get(2) == "2"
    assert recent.get(3) is None
    recent.put(10, "larger than all", 99)
    assert recent.get(10) is not None
    assert recent.nodes == 99


def test_exponents_with_a_formula_of_their_own_stay_literals(made: list[object]) -> None:
    x = td.asarray(np.array([1.0, 2.0, 4.0], np.float32))
    for exponent in (3, -2, -0.5, 0.5):
        np.testing.assert_allclose((x**exponent).numpy(), np.array([1.0, 2.0, 4.0]) ** exponent, rtol=1e-6)
    assert len(made) == 4  # each has its formula
    for exponent in (4, 5, 6, 7):
        (x**exponent).realize()
    assert len(made) == 6  # these share one, from the second on
