"""The cases of the comparison suite: their initial values, and operators that every peer computes alike."""

import zlib
from typing import Any

import numpy as np
import pytest


def digest(values: dict[str, np.ndarray]) -> int:
    """Return a number that changes when a value, or the order they are drawn in, does."""
    total = 0
    for name in sorted(values):
        total = zlib.crc32(np.ascontiguousarray(values[name]), zlib.crc32(name.encode(), total))
    return total


def num_trained(values: dict[str, np.ndarray]) -> int:
    """Return the number of trained parameters."""
    return sum(value.size for name, value in values.items() if "running" not in name and "num_batches" not in name)


@pytest.mark.parametrize(
    ("case", "parameters", "drawn"),
    [
        ("T1", 669_706, 0x5B0BD97E),
        ("T2", 11_173_962, 0x2F2FBD1D),
        ("T3", 10_745_088, 0x83A69FEF),
        ("T4", 1_086_017, 0x3D2CC590),
        ("T5", 258_723, 0xB5734C6C),
        ("I1", 25_557_032, 0x7EF64F99),
    ],
)
def test_the_models_have_the_stated_sizes_and_values(bench: Any, case: str, parameters: int, drawn: int) -> None:
    values = bench("spec").CASES[case].values()
    assert num_trained(values) == parameters
    assert {value.dtype for value in values.values()} <= {np.dtype(np.float32), np.dtype(np.int64)}
    assert digest(values) == drawn


def test_a_language_model_is_to_tell_the_next_token(bench: Any) -> None:
    x, y = bench("spec").gpt_batch()
    assert x.shape == y.shape == (8, 256)
    assert (x[:, 1:] == y[:, :-1]).all()


# JAX starts threads, and warns of every fork that later tests make.
@pytest.mark.parametrize(
    "peer", ["treadle_peer", "torch_eager", "torch_compile", pytest.param("jax_peer", marks=pytest.mark.slow)]
)
def test_a_peer_has_every_case(bench: Any, peer: str) -> None:
    if peer == "jax_peer":
        pytest.importorskip("jax")
    assert set(bench(peer).STEPS) == set(bench("spec").CASES)


SMALL = {
    "matmul": [(5, 6), (6, 7)],
    "softmax": [(4, 9)],
    "layer_norm": [(4, 9), (9,), (9,)],
    "gelu": [(50,)],
    "conv2d": [(2, 3, 6, 5), (4, 3, 3, 3)],
    "chain": [(50,)],
    "sum": [(50,)],
    "attention": [(2, 3, 7, 8)] * 3,
}
CHANNELS_FIRST = {"conv2d": (0, 3, 1, 2)}  # from what treadle's and JAX's peers keep channels-last
HEADS_FIRST = {"attention": (0, 2, 1, 3)}  # from JAX's [B, T, H, D]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    ("peer", "orders"),
    [
        ("treadle_operators", CHANNELS_FIRST),
        pytest.param("jax_operators", CHANNELS_FIRST | HEADS_FIRST, marks=pytest.mark.slow),
    ],
)
def test_operators_are_the_same_in_every_peer(bench: Any, peer: str, orders: dict[str, Any], name: str) -> None:
    if peer == "jax_operators":
        pytest.importorskip("jax")
    rng = np.random.default_rng(0)
    batch = tuple(rng.standard_normal(shape, dtype=np.float32) for shape in SMALL[name])
    want = np.asarray(bench("torch_operators").call(name, {}, batch)())
    got = np.asarray(bench(peer).call(name, {}, batch)())
    got = got.transpose(orders[name]) if name in orders else got
    assert np.abs(got - want).max() < 2e-6 * max(1, np.abs(want).max())


def test_every_operator_is_tested(bench: Any) -> None:
    assert [op.name for op in bench("operators").OPERATORS] == list(SMALL)


def test_values_are_compared_in_float64_by_pieces(bench: Any) -> None:
    values = np.full(200_000, -0.1, np.float32)
    assert bench("measure").mean_size(values.reshape(2, -1)) == pytest.approx(float(np.float32(0.1)), rel=1e-12)
    assert bench("measure").mean_size(np.float32(2.5)) == 2.5


def test_a_measurement_takes_all_reference_values_and_times_enough_steps(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, measure = bench("spec"), bench("measure")
    losses = iter([3.0, 2.0, 1.0, 0.5, *[0.0] * 99])
    case = spec.Case("X.one", "", dict, tuple, (3.0, 2.0, 1.0, 0.51), 1e-3, None)
    monkeypatch.setattr(spec, "CASES", {"X.one": case})
    peer = type("Peer", (), {"STEPS": {"X.one": lambda values, batch: lambda: next(losses)}})
    found = measure.measure_case(peer, "X.one", 0.0, {0}, 0.0)
    assert found["vals"] == [3.0, 2.0, 1.0, 0.5]
    assert found["steps"] == measure.LEAST
    assert found["worst_error"] == pytest.approx(0.01 / 0.51)
    assert not found["values_ok"]
