import json
import time
from pathlib import Path

import pytest

from treadle.codegen.target import host
from treadle.core.config import config
from treadle.runtime import machine as roofline
from treadle.runtime.machine import Figure, Level, Machine, assumed, measure_machine, this_machine


def pair(one: float, every: float) -> tuple[Figure, Figure]:
    return Figure(one, "told"), Figure(every, "told")


TWO_LEVELS = Machine(
    "test",
    4,
    pair(100e9, 400e9),
    (
        Level("L2", 1e6, pair(80e9, 320e9), pair(60e9, 240e9)),
        Level("DRAM", float("inf"), pair(20e9, 30e9), pair(16e9, 24e9)),
    ),
    measured=True,
)


@pytest.mark.slow  # it measures time
def test_a_measurement_is_kept_and_only_rises(tmp_path: Path) -> None:
    with config(cache_dir=str(tmp_path), threads=2):
        assert not this_machine().measured
        start = time.perf_counter()
        first = measure_machine()
        elapsed = time.perf_counter() - start
        assert elapsed < 10, "a second on an idle machine"
        assert first.measured
        assert first.flops[0].value > 5e9
        assert first.levels[-1].name == "DRAM"
        for level in first.levels:
            assert level.read[1].value >= level.read[0].value > 1e9
            assert level.copy[1].value >= level.copy[0].value > 5e8
        assert "CPU time" in first.flops[0].how
        assert this_machine() == first
        roofline._known.clear()
        assert this_machine() == first  # from disk
        again = measure_machine()
        assert again.flops[0].value >= first.flops[0].value
        assert str(again).startswith(f"{host().cpu}, 2 threads (measured)\n  float32 FMA")


def test_damaged_or_missing_files_give_the_guess(tmp_path: Path) -> None:
    with config(cache_dir=str(tmp_path), threads=3):
        path = roofline._path(host(), 3)
        assert path is not None
        for text in ("", "[]", "{}", json.dumps({"format": 1}), json.dumps({"format": 99})):
            path.write_text(text)
            roofline._known.clear()
            assert this_machine() == assumed(host(), 3)
    with config(cache_dir="", threads=3):
        assert this_machine() == assumed(host(), 3)
    assert "assumed, not measured" in str(assumed(host(), 3))


def test_figures_survive_the_disk(tmp_path: Path) -> None:
    with config(cache_dir=str(tmp_path)):
        path = roofline._path(host(), 4)
        assert path is not None
        roofline._store(TWO_LEVELS, path)
        assert roofline._stored(host(), 4) == TWO_LEVELS


def test_a_kernel_is_bound_by_arithmetic_or_by_memory() -> None:
    assert TWO_LEVELS.predict_ns(1e6, 1e3) == pytest.approx(1e4)
    assert TWO_LEVELS.predict_ns(1e3, 1.6e6) == pytest.approx(1e5)
    assert TWO_LEVELS.predict_ns(1e3, 0.6e6) == pytest.approx(1e4)
    assert TWO_LEVELS.predict_ns(1e3, 0.6e6, working_set=5e6) == pytest.approx(0.6e6 / 16)
    assert TWO_LEVELS.predict_ns(1e6, 1e3, threads=4) == pytest.approx(2500)


def test_rates_between_one_thread_and_all() -> None:
    assert TWO_LEVELS.peak_flops(2) == pytest.approx(200e9)
    assert TWO_LEVELS.peak_flops(1, itemsize=8) == pytest.approx(50e9)
    assert TWO_LEVELS.peak_flops(1, itemsize=2) == pytest.approx(100e9)
    assert TWO_LEVELS.bandwidth(2, write=False) == pytest.approx(30e9)  # two threads fill the memory bus
    assert TWO_LEVELS.bandwidth(9, write=False) == pytest.approx(30e9)
    assert TWO_LEVELS.bandwidth(1, 1e5) == pytest.approx(60e9)
