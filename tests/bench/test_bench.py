"""The comparison suite: its numbers, its arithmetic over rounds, its tables, and one real measurement."""

import importlib
import io
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from rich.console import Console

BENCH = Path(__file__).parents[2] / "bench"
TITLES = {"treadle": "treadle", "torch": "torch eager"}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a loader of the suite's scripts, which stand outside any package."""
    monkeypatch.syspath_prepend(str(BENCH))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in ("spec", "run", "table", "machine"):
        sys.modules.pop(name, None)


def record(peer: str, turn: int, step: float, rss: float, *, share: float = 0.0, ok: bool = True) -> dict[str, Any]:
    return {
        "case": "T3", "peer": peer, "version": "1", "round": turn, "cold": turn == 0, "disturbed": share > 0.05,
        "step_ms_median": step, "step_ms_min": step, "rss_mb": rss, "first_call_s": 9.0 if turn == 0 else 1.0,
        "compile_s": 5.0, "build_s": 1.0, "worst_loss_error": 1e-7, "losses_ok": ok,
    }  # fmt: skip


def suite(bench: Any, records: list[dict[str, Any]]) -> Any:
    return bench("run").Suite(2, 3, 1.0, 0, 0.0, Console(quiet=True), Path(), records)


def report(bench: Any, records: list[dict[str, Any]]) -> dict[str, Any]:
    run = bench("run")
    summary = run.summarise(suite(bench, records), ["T3"], ["treadle", "torch"], {})
    floors = [{"what": f.what, "value": v, "bound": f.bound, "met": met} for f, v, met in run.floors(summary)]
    return {
        "when": "now", "machine": bench("machine").describe(2), "absent": {"JAX": "not installed"}, "summary": summary,
        "protocol": {"rounds": 3, "budget_s": 1.0, "disturbed_above": 0.05}, "floors": floors, "records": records,
    }  # fmt: skip


ROUNDS = [
    record("torch", 0, 1000, 800), record("treadle", 0, 500, 400),
    record("torch", 1, 1200, 800), record("treadle", 1, 1000, 400),
    record("torch", 2, 900, 800), record("treadle", 2, 600, 600),
]  # fmt: skip


def test_the_models_have_the_stated_sizes(bench: Any) -> None:
    spec = bench("spec")
    assert sum(value.size for value in spec.mlp().values()) == 669_706
    assert round(sum(value.size for value in spec.gpt().values()) / 1e6, 2) == 10.75
    assert all(value.dtype == np.float32 for value in [*spec.mlp().values(), *spec.gpt().values()])
    x, y = spec.gpt_batch()
    assert x.shape == y.shape == (8, 256)
    assert (x[:, 1:] == y[:, :-1]).all()


def test_ratios_are_taken_within_a_round(bench: Any) -> None:
    row = report(bench, ROUNDS)["summary"]["T3"]["treadle"]
    assert row["speed"] == pytest.approx(1.5)  # of 2.0, 1.2, 1.5; the ratio of the medians would be 1.67
    assert row["rss"] == pytest.approx(0.5)
    assert (row["first_cold_s"], row["first_warm_s"]) == (9.0, 1.0)


def test_floors_say_which_are_missed(bench: Any) -> None:
    floors = {floor["what"]: floor["met"] for floor in report(bench, ROUNDS)["floors"]}
    assert floors == {
        "T3: steps per second, relative to torch eager": True,
        "T3: peak memory, relative to torch eager": True,
        "T3: first call, nothing cached, seconds": True,
        "T3: first call of a second process, seconds": True,
    }
    slow = [record("torch", 0, 900, 800), record("treadle", 0, 1000, 800)]
    assert [floor["met"] for floor in report(bench, slow)["floors"]] == [False, False, True]


def test_a_disturbed_round_is_starred_and_a_wrong_loss_is_named(bench: Any) -> None:
    text = bench("table").markdown(
        report(bench, [record("torch", 0, 900, 800, share=0.5), record("treadle", 0, 90, 1, ok=False)]), TITLES
    )
    assert "900 ms*" in text
    assert "WRONG" in text
    assert "JAX is left out: not installed." in text


def test_the_terminal_shows_what_the_markdown_shows(bench: Any) -> None:
    console = Console(width=80, file=io.StringIO())
    bench("table").show(report(bench, ROUNDS), TITLES, console)
    text = console.file.getvalue()
    assert "600 ms" in text
    assert "1.50x" in text


def test_the_watch_sees_other_work(bench: Any) -> None:
    watch = bench("machine").Watch({0})
    watch.start()
    began = watch.began
    watch.now = lambda: (began[0] + 10.0, began[1] + 7.0, began[2] + 2.0, began[3] + 3)
    assert watch.stop()["other_share"] == pytest.approx(0.5)


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_an_unknown_peer_is_refused_with_the_allowed_ones() -> None:
    done = start(str(BENCH / "run.py"), "--peers", "theano")
    assert done.returncode == 1
    assert "unknown peer theano; allowed are treadle, torch, torch-compile, jax." in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "bench: --rounds is 0; allowed are numbers above 0."),
        (["--threads", "-1"], "bench: --threads is -1; allowed"),
        (["--budget", "nan"], "bench: --budget is nan; allowed"),
        (["--show", "/nowhere.json"], "bench: /nowhere.json does not exist"),
    ],
)
def test_options_that_cannot_be_are_refused(arguments: list[str], message: str) -> None:
    done = start(str(BENCH / "run.py"), *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_more_threads_than_cpus_are_refused() -> None:
    done = start(str(BENCH / "measure.py"), "T1", "torch_eager", "--threads", "4096")
    assert done.returncode == 1
    assert "4096 threads asked" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("peer", ["torch_eager", "treadle_peer"])
@pytest.mark.parametrize("case", ["T1", "T3", "T4"])
def test_a_peer_reproduces_the_reference_losses(case: str, peer: str) -> None:
    done = start(str(BENCH / "measure.py"), case, peer, "--threads", "1", "--budget", "0.1")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["losses_ok"], found
