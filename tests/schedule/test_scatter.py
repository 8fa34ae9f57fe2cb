"""Scatter-add: repeated positions add up in order, whatever the split and the axis."""

import numpy as np
import pytest

import treadle as td
from treadle.core import config


@pytest.mark.parametrize("cpu", ["avx2", "avx512"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "int64"])
@pytest.mark.parametrize("shape", [(9,), (4, 1), (1, 7), (5, 130), (6, 3, 17)])
def test_repeated_positions_add_up(shape: tuple[int, ...], dtype: str, cpu: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 3, shape).astype(dtype)
    where = rng.integers(-shape[0], shape[0], 11)
    values = rng.integers(-2, 3, (11, *shape[1:])).astype(dtype)
    want = x.copy()
    np.add.at(want, where, values)
    for threads in (1, 3):
        with config(cpu=cpu, threads=threads):
            got = td.asarray(x).at[td.asarray(where)].add(td.asarray(values)).numpy()
        np.testing.assert_array_equal(got, want)


def test_the_order_of_a_sum_does_not_depend_on_threads() -> None:
    rng = np.random.default_rng(0)
    values, where = rng.standard_normal((4000, 40)).astype(np.float32), rng.integers(0, 7, 4000)
    want = np.zeros((7, 40), np.float32)
    np.add.at(want, where, values)
    for threads in (1, 2, 3):
        with config(threads=threads):
            got = td.zeros((7, 40)).at[td.asarray(where)].add(td.asarray(values)).numpy()
        np.testing.assert_array_equal(got, want)
