"""Random programs give what the oracle gives, on every instruction set, with the same bits for every thread count."""

from random import Random

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle as td
from tests.jit.programs import exact_program, smooth_program
from tests.reference import evaluate
from treadle.core import config
from treadle.jit import Plan
from treadle.tensor import lift

CPUS = ("avx2", "avx512")
TOLERANCE = {"f64": 1e-9, "f32": 5e-4, "f16": 5e-2, "bf16": 3e-1}


def outcomes(tensors: list[td.Tensor], cpu: str, threads: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Results of the oracle and of compiled code; the inputs must be as they were."""
    graph, arrays = lift([t.node for t in tensors])
    before = [a.tobytes() for a in arrays]
    with config(cpu=cpu), np.errstate(all="ignore"):
        wanted = evaluate(graph, arrays)
        results = [Plan(graph, num_threads=n).run(arrays) for n in (1, threads)]
    assert [a.tobytes() for a in arrays] == before, "an input was written to"
    assert [a.tobytes() for a in results[0]] == [a.tobytes() for a in results[1]], "bits depend on the threads"
    for got, want in zip(results[0], wanted, strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
    return wanted, results[0]


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.sampled_from(CPUS), st.sampled_from((2, 3)))
def test_programs_of_whole_numbers_are_exact(seed: int, cpu: str, threads: int) -> None:
    tensors = exact_program(Random(seed), 10)
    if tensors:
        for want, got in zip(*outcomes(tensors, cpu, threads), strict=True):
            np.testing.assert_array_equal(got, want)


@settings(max_examples=14)
@given(st.integers(0, 2**31), st.sampled_from(CPUS), st.sampled_from((td.float64, td.float32, td.float16, td.bfloat16)))
def test_losses_and_gradients_of_smooth_programs(seed: int, cpu: str, dtype: td.DType) -> None:
    tensors = smooth_program(Random(seed), dtype, 6)
    for want, got in zip(*outcomes(tensors, cpu, 3), strict=True):
        close(got, want, TOLERANCE[dtype.short])


def close(got: np.ndarray, want: np.ndarray, tolerance: float) -> None:
    """Hold results against each other, relative to the largest: errors of sums are of that size."""
    got, want = got.astype(np.float64), want.astype(np.float64)
    scale = np.abs(want).max(initial=0) + 20 * float(ml_dtypes.finfo(ml_dtypes.bfloat16).tiny) + 1e-3
    assert np.abs(got - want).max(initial=0) <= tolerance * scale


# What random programs have found, and shapes they meet too seldom.


@pytest.mark.parametrize("cpu", CPUS)
def test_reversed_rows_of_a_padded_matrix(cpu: str) -> None:
    """The position runs backwards through a quotient and a remainder, which must not become negative on the way."""
    x = np.arange(64, dtype=np.float32).reshape(8, 8)
    with config(cpu=cpu):
        got = td.pad(td.asarray(x), [(1, 1), (1, 3)], value=1).reshape((120, 1))[::-1].numpy()
    np.testing.assert_array_equal(got, np.pad(x, [(1, 1), (1, 3)], constant_values=1).reshape(120, 1)[::-1])


@pytest.mark.parametrize(
    ("a", "b"), [((0, 3), (3, 4)), ((2, 0), (0, 4)), ((2, 3), (3, 0)), ((0, 2, 3), (3, 4)), ((5, 0, 2, 2), (2, 2))]
)
def test_products_with_no_elements(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = td.ones(a), td.ones(b)
    np.testing.assert_array_equal((x @ y + 1).numpy(), np.ones(a) @ np.ones(b) + 1)
    assert float(td.sum(x @ y)) == 0


def test_a_pad_of_nothing_is_its_value() -> None:
    x = td.where(td.asarray(1.0) > 0, td.asarray(2.0), td.asarray(3.0))
    padded = td.pad(td.broadcast_to(x, (0, 2)), [(1, 1), (0, 1)], value=7)
    np.testing.assert_array_equal(padded.numpy(), np.full((2, 3), 7))


@pytest.mark.parametrize("axis", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2), ()])
@pytest.mark.parametrize("shape", [(3, 130, 5), (70, 1, 67), (2, 3, 1000)])
def test_reductions_over_any_axes(shape: tuple[int, ...], axis: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(-9, 10, shape).astype(np.float32)
    t = td.asarray(x)
    for keepdims in (False, True):
        got = [f(t, axis=axis, keepdims=keepdims).numpy() for f in (td.sum, td.max, td.min)]
        want = [f(x, axis=axis, keepdims=keepdims) for f in (np.sum, np.max, np.min)]
        for g, w in zip(got, want, strict=True):
            np.testing.assert_array_equal(g, w)


def test_a_large_sum_has_the_same_bits_for_every_number_of_threads() -> None:
    x = np.random.default_rng(0).standard_normal((1031, 517)).astype(np.float32)
    results = set[tuple[bytes, ...]]()
    for threads in (1, 2, 3, 7):
        with config(threads=threads):
            t = td.asarray(x)
            values = [td.sum(t), td.sum(t, axis=0), td.softmax(t, axis=1), t @ t.mT, td.mean(td.exp(t))]
            td.realize(*values)
            results.add(tuple(v.numpy().tobytes() for v in values))
    assert len(results) == 1


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("dtype", [td.float32, td.bfloat16, td.float64])
@pytest.mark.parametrize("channels", [1, 4])
def test_a_strided_convolution_of_repeated_and_of_reversed_places(channels: int, dtype: td.DType, cpu: str) -> None:
    """Elements lie 0 or a negative number of places apart."""
    x = np.random.default_rng(0).integers(-2, 3, (1, channels, 33)).astype(np.float32)
    w = td.ones((2, channels, 1), dtype=dtype)
    with config(cpu=cpu):
        same = td.nn.functional.conv1d(td.broadcast_to(td.asarray(x[:, :, :1], dtype=dtype), x.shape), w, stride=2)
        turned = td.nn.functional.conv1d(td.flip(td.asarray(x, dtype=dtype), axis=2), w, stride=2)
        sums = np.broadcast_to(x.sum(1, keepdims=True), (1, 2, 33))
        np.testing.assert_array_equal(same.astype("float32").numpy(), np.repeat(sums[:, :, :1], 17, 2))
        np.testing.assert_array_equal(turned.astype("float32").numpy(), sums[:, :, ::-2])
