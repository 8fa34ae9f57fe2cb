"""The comparison suite: its numbers, its arithmetic over rounds, its tables, and one real measurement."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

BENCH = Path(__file__).parents[2] / "bench"
TITLES = {"treadle": "treadle", "torch": "torch eager"}


def record(
    peer: str, turn: int, step: float, rss: float, *, share: float = 0.0, ok: bool = True, case: str = "T3"
) -> dict[str, Any]:
    return {
        "case": case, "peer": peer, "version": "1", "round": turn, "cold": turn == 0, "disturbed": share > 0.05,
        "step_ms_median": step, "step_ms_min": step, "rss_mb": rss, "first_call_s": 9.0 if turn == 0 else 1.0,
        "compile_s": 5.0, "build_s": 1.0, "worst_error": 1e-7, "values_ok": ok,
    }  # fmt: skip


def suite(bench: Any, records: list[dict[str, Any]]) -> Any:
    return bench("run").Suite(2, 3, 1.0, 0, 0.0, Console(quiet=True), Path(), records)


def report(bench: Any, records: list[dict[str, Any]]) -> dict[str, Any]:
    run = bench("run")
    groups = list(dict.fromkeys(record["case"].partition(".")[0] for record in records))
    summary = run.summarise(suite(bench, records), groups, ["treadle", "torch"], {})
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


def test_ratios_are_taken_within_a_round(bench: Any) -> None:
    row = report(bench, ROUNDS)["summary"]["T3"]["treadle"]
    assert row["speed"] == pytest.approx(1.5)  # of 2.0, 1.2, 1.5; the ratio of the medians would be 1.67
    assert row["rss"] == pytest.approx(0.5)
    assert (row["first_cold_s"], row["first_warm_s"]) == (9.0, 1.0)


def test_floors_say_which_are_missed(bench: Any) -> None:
    floors = {floor["what"]: floor["met"] for floor in report(bench, ROUNDS)["floors"]}
    assert floors == {
        "T3: speed, relative to torch eager": True,
        "T3: peak memory, relative to torch eager": True,
        "T3: first call, nothing cached, seconds": True,
        "T3: first call of a second process, seconds": True,
    }
    slow = [record("torch", 0, 900, 800), record("treadle", 0, 1000, 800)]
    assert [floor["met"] for floor in report(bench, slow)["floors"]] == [False, False, True]


def operators(bench: Any) -> list[dict[str, Any]]:
    """Return a round of K1 in which treadle is twice as fast, and takes half the memory."""
    cases = [case.name for case in bench("spec").GROUPS["K1"]]
    return [
        record(peer, 0, step, rss, case=case)
        for peer, step, rss in (("torch", 4, 800), ("treadle", 2, 400))
        for case in cases
    ]


def test_every_operator_has_a_floor_of_its_own_and_all_share_one_of_memory(bench: Any) -> None:
    floors = report(bench, operators(bench))["floors"]
    speeds = [floor for floor in floors if floor["value"] == 2.0]
    assert [floor["what"] for floor in floors if floor not in speeds] == ["K1: peak memory, relative to torch eager"]
    assert len(speeds) == len(bench("operators").OPERATORS)
    assert {floor["bound"] for floor in speeds} == {0.95}


def test_operators_are_rows_of_one_table(bench: Any) -> None:
    text = bench("table").markdown(report(bench, operators(bench)), TITLES)
    assert "|  | treadle | torch eager |" in text
    assert "| sum | 2.00 ms, 2.00x | 4.00 ms, 1.00x |" in text
    assert "| peak MB of all | 400 | 800 |" in text


def test_the_brief_table_has_a_row_per_case(bench: Any) -> None:
    text = bench("table").brief(report(bench, [*ROUNDS, *operators(bench)]), TITLES)
    assert "| T3: GPT 6 layers, 384 wide, 256 tokens, batch 8, AdamW | 600 ms | 1000 ms | 1.50x | 0.50x |" in text
    assert "| K1: sum of 16 M elements | 2.00 ms | 4.00 ms | 2.00x |  |" in text


def test_tables_go_between_the_marks_of_a_page(bench: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- figures -->\nold\n<!-- /figures -->\nbehind\n")
    bench("table").into(page, "new \\1")
    assert page.read_text() == "before\n<!-- figures -->\nnew \\1\n<!-- /figures -->\nbehind\n"
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="to fill"):
        bench("table").into(page, "new")


def test_pages_have_the_marks() -> None:
    for page in (BENCH.parent / "README.md", BENCH.parent / "docs" / "benchmarks.md"):
        assert page.read_text().count("<!-- figures -->") == page.read_text().count("<!-- /figures -->") == 1


def test_the_calmest_try_of_a_group_is_kept(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = bench("run")
    tries = iter([[0.0, 0.9], [0.2, 0.3], [0.4, 0.0]])
    monkeypatch.setattr(run.machine, "wait_until_calm", lambda share, patience: None)
    group = run.Suite(2, 1, 1.0, 2, 0.0, Console(quiet=True), Path("/nowhere"))
    group.process = lambda name, peer: {"records": [{"case": name, "other_share": share} for share in next(tries)]}
    group.measure("K1", "torch", 0)
    assert [(r["other_share"], r["attempt"], r["disturbed"]) for r in group.records] == [(0.2, 1, True), (0.3, 1, True)]


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
@pytest.mark.parametrize("group", ["T1", "T2", "T3", "T4", "T5", "I1", "K1"])
def test_a_peer_reproduces_the_reference_values(group: str, peer: str) -> None:
    done = start(str(BENCH / "measure.py"), group, peer, "--threads", "1", "--budget", "0.1")
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)["records"]
    assert records
    assert all(record["values_ok"] for record in records), records
