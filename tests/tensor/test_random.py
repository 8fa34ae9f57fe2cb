"""Random tensors: the same for the same key, advancing otherwise, and distributed as they should be."""

from typing import Any

import numpy as np
import pytest

import treadle as td
from treadle.tensor.random import Generator

DRAWS: list[Any] = [
    lambda **k: td.random.uniform((4, 5), **k),
    lambda **k: td.random.normal((4, 5), 1.0, 2.0, **k),
    lambda **k: td.random.rand(4, 5, **k),
    lambda **k: td.random.randn(4, 5, **k),
    lambda **k: td.random.integers(-5, 50, (20,), **k),
    lambda **k: td.random.randint(0, 1000, (20,), **k),
    lambda **k: td.random.bits((20,), **k),
    lambda **k: td.random.bernoulli(0.5, (64,), **k),
    lambda **k: td.random.bernoulli(td.full((64,), 0.5), **k),
    lambda **k: td.random.permutation(50, **k),
    lambda **k: td.random.permutation(td.arange(50), **k),
    lambda **k: td.random.randperm(50, **k),
    lambda **k: td.random.categorical(td.zeros((30, 9)), **k),
]


@pytest.mark.parametrize("draw", DRAWS)
def test_draws_depend_on_nothing_but_key_or_seed(draw: Any) -> None:
    key = td.random.key(7)
    np.testing.assert_array_equal(draw(key=key).numpy(), draw(key=key).numpy())
    td.manual_seed(3)
    first, second = draw().numpy(), draw().numpy()
    td.manual_seed(3)
    np.testing.assert_array_equal(draw().numpy(), first)
    np.testing.assert_array_equal(draw().numpy(), second)
    assert not np.array_equal(first, second)
    generator = Generator(3)
    np.testing.assert_array_equal(draw(generator=generator).numpy(), first)


def test_a_seed_gives_these_numbers() -> None:
    td.manual_seed(0)
    # As in JAX: normal(fold_in(key(0), 0), (3,)).
    np.testing.assert_allclose(td.random.normal((3,)).numpy(), [1.0040144, -0.9063373, -0.7481723], rtol=1e-6)
    assert td.random.integers(0, 10, (6,)).tolist() == [0, 9, 7, 5, 5, 7]
    assert td.random.permutation(6).tolist() == [2, 5, 3, 4, 0, 1]


def test_keys() -> None:
    key = td.random.key(0)
    a, b, c = td.random.split(key, 3)
    keys = (key, a, b, c, td.random.fold_in(key, 3), td.random.fold_in(key, td.asarray(4)))
    draws = [td.random.uniform((8,), key=k).numpy() for k in keys]
    for i, x in enumerate(draws):
        for y in draws[:i]:
            assert not np.array_equal(x, y)
    with pytest.raises(td.DTypeError, match=r"random: the key is i64\[2\]"):
        td.random.uniform((2,), key=td.asarray([1, 2]))
    with pytest.raises(ValueError, match="seed -1 is out of range"):
        td.random.key(-1)


def test_moments() -> None:
    td.manual_seed(0)
    u = td.random.uniform((20_000,), -1.0, 3.0).numpy()
    assert u.min() >= -1
    assert u.max() < 3
    assert abs(u.mean() - 1) < 0.03
    n = td.random.normal((20_000,), 2.0, 0.5).numpy()
    assert abs(n.mean() - 2) < 0.02
    assert abs(n.std() - 0.5) < 0.01
    assert set(td.random.integers(3, 6, (1000,)).tolist()) == {3, 4, 5}
    assert abs(td.random.bernoulli(0.3, (20_000,)).mean().item() - 0.3) < 0.015
    assert sorted(td.random.permutation(20).tolist()) == list(range(20))
    assert td.random.uniform((2,), dtype=td.float64).dtype is td.float64
    assert td.random.normal(dtype=td.bfloat16).dtype is td.bfloat16


def test_permutation_of_rows() -> None:
    x = np.arange(12).reshape(4, 3)
    got = td.random.permutation(td.asarray(x), key=td.random.key(1)).numpy()
    np.testing.assert_array_equal(np.sort(got, axis=0), x)
    got = td.random.permutation(td.asarray(x), axis=1, key=td.random.key(1)).numpy()
    np.testing.assert_array_equal(np.sort(got, axis=1), x)


def test_bad_parameters() -> None:
    with pytest.raises(ValueError, match=r"bernoulli: p=1.5 is not a probability"):
        td.random.bernoulli(1.5, (2,))
    with pytest.raises(ValueError, match="integers"):
        td.random.integers(5, 5)
    with pytest.raises(td.DTypeError, match="uniform"):
        td.random.uniform((2,), dtype=td.int32)
    with pytest.raises(td.ShapeError, match="categorical"):
        td.random.categorical(1.0)


def test_a_new_seed_is_told() -> None:
    number = td.random.seed()
    drawn = td.random.uniform((2,)).numpy()
    td.manual_seed(number)
    np.testing.assert_array_equal(td.random.uniform((2,)).numpy(), drawn)
    td.manual_seed(0)
