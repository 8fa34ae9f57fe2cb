"""Generated loops: tails of every length, strides, gathers, and nothing written outside of a result."""

import numpy as np
import pytest

import treadle as td
from treadle.core import config

LENGTHS = [1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 130, 4095, 4097]


@pytest.fixture(params=["avx2", "avx512"], autouse=True)
def cpu(request: pytest.FixtureRequest) -> object:
    with config(cpu=request.param):
        yield


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "int64"])
def test_tails_of_every_length(dtype: str) -> None:
    """Whole steps, narrow steps and the masked one meet in every combination."""
    for n in LENGTHS[::2] if dtype != "float32" else LENGTHS:
        x = (np.arange(n) % 50).astype(dtype)
        t = td.asarray(x)
        np.testing.assert_array_equal((t + t).numpy(), x + x)
        assert td.max(t).numpy() == x.max()
        assert int(td.sum(t, dtype="int64" if "int" in dtype else "float32").numpy()) == x.astype(np.int64).sum()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "uint8", "bool"])
@pytest.mark.parametrize("start", [0, 1])
def test_neighbours_of_strides_are_not_read(start: int, dtype: str) -> None:
    """The last element read is the last there is: a vector loaded beyond it would be that of another tensor."""
    for step in (2, 3, 4, 5, -1):
        for n in (16, 17, 63, 64, 100, 256):
            x = td.asarray(np.arange(n * abs(step)) % 7 < 3 if dtype == "bool" else np.arange(n * abs(step)) % 97)
            x = x.astype(dtype)
            got = (x[start::step] if step > 0 else x[::-1]) == 1
            np.testing.assert_array_equal(got.numpy(), (x.numpy()[start::step] if step > 0 else x.numpy()[::-1]) == 1)


@pytest.mark.parametrize("step", [1, 2, 3, 4, -1, -2])
def test_strides(step: int) -> None:
    x = np.arange(7 * 130, dtype=np.float32).reshape(7, 130)
    t = td.asarray(x)
    np.testing.assert_array_equal((t[:, ::step] * 2).numpy(), x[:, ::step] * 2)
    np.testing.assert_array_equal((t[::step] + t[::step]).numpy(), 2 * x[::step])
    np.testing.assert_array_equal(td.sum(t[::step, ::step], axis=0).numpy(), x[::step, ::step].sum(axis=0))


@pytest.mark.parametrize("start", range(0, 12, 3))
def test_positions_that_run_backwards_through_quotients(start: int) -> None:
    x = np.arange(60, dtype=np.float32).reshape(5, 12)
    padded = np.pad(x, ((1, 2), (2, 1)), constant_values=-1)
    got = td.pad(td.asarray(x), ((1, 2), (2, 1)), value=-1).reshape((-1,))[::-1][start:]
    np.testing.assert_array_equal(got.numpy(), padded.reshape(-1)[::-1][start:])
    again = td.reshape(got[: 48 - start], (-1, 4))[:, ::-1] * 2 if (48 - start) % 4 == 0 else got * 2
    want = padded.reshape(-1)[::-1][start:]
    want = want[: 48 - start].reshape(-1, 4)[:, ::-1] * 2 if (48 - start) % 4 == 0 else want * 2
    np.testing.assert_array_equal(again.numpy(), want)


def test_neighbours_of_a_result_are_left_alone() -> None:
    """Plans write into memory given to them: guard bytes around it stay."""
    from treadle.core import Type, float32
    from treadle.ir import Graph, inputs_for
    from treadle.jit import Plan

    for n in LENGTHS[:14]:
        (x,) = inputs_for([Type(float32, (n,))])
        plan = Plan(Graph((x,), (x * 2 + 1,)), {0: 0})
        room = np.full(n + 64, 5, np.float32)
        room[32 : 32 + n] = np.arange(n)
        plan.run([room[32 : 32 + n]])
        np.testing.assert_array_equal(room[32 : 32 + n], np.arange(n) * 2 + 1)
        assert (room[:32] == 5).all()
        assert (room[32 + n :] == 5).all()
