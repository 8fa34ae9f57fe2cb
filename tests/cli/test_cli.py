"""The command: what its subcommands print, and that an error is one message."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import treadle as td
from treadle.cli import main
from treadle.cli.main import commands
from treadle.cli.sample import printable
from treadle.cli.train import table
from treadle.train import Progress, Status, TrainConfig

SMALL = [
    "--layers", "1", "--heads", "2", "--width", "8", "--context", "8", "--batch", "4", "--vocabulary", "chars",
    "--eval-batches", "1", "--evaluations", "1", "--warmup", "2",
]  # fmt: skip


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text("def fox(jumps): return over.lazy(dog)\n" * 40)
    return str(path)


def call(*args: str) -> Result:
    return CliRunner().invoke(commands, list(args), catch_exceptions=False)


def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """Return what the command says when it fails the way users see it."""
    monkeypatch.setattr(sys, "argv", ["treadle", *args])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("treadle: ")
    assert said.count("\n") == 1
    assert "Traceback" not in said
    return said


def test_version_and_help():
    assert call("--version").output == f"treadle, version {td.__version__}\n"
    shown = call("--help").output
    for name in ("train", "sample", "explain", "bench"):
        assert name in shown
    assert f"[default: {TrainConfig().lr}]" in call("train", "gpt", "--help").output


def test_train_sample_and_explain(text: str, tmp_path: Path):
    run = tmp_path / "run"
    shown = call("train", "gpt", "--text", text, "--run", str(run), "--steps", "6", *SMALL)
    assert shown.exit_code == 0
    for part in ("1 files, 0.0 MB", "step 6/6", "validation loss", str(run), "treadle sample", "the compiled step"):
        assert part in shown.output
    assert sorted(p.name for p in run.iterdir()) == [
        "checkpoint.safetensors", "config.json", "loss.svg", "metrics.jsonl", "sample.txt",
    ]  # fmt: skip
    assert (run / "sample.txt").read_text().startswith("def ")
    settings = json.loads((run / "config.json").read_text())
    assert settings["steps"] == 6
    assert settings["width"] == 8

    first = call("sample", str(run), "--prompt", "def ", "--tokens", "20")
    assert first.output.startswith("def ")
    assert len(first.output) == len("def ") + 20 + 1
    assert call("sample", str(run), "--prompt", "def ", "--tokens", "20").output == first.output
    assert call("sample", str(run), "--prompt", "def ", "--tokens", "20", "--seed", "1").output != first.output
    narrow = [call("sample", str(run), "--tokens", "20", *s).output for s in (["--top-p", "1e-9"], ["--top-k", "1"])]
    assert narrow[0] == narrow[1]

    # Six more steps than the six it was made with.
    more = call("train", "gpt", "--resume", str(run), "--steps", "12", "--no-explain")
    assert "starts at step 6" in more.output
    assert "step 12/12" in more.output
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]
    assert steps == list(range(1, 13))

    before = {path.name: path.read_bytes() for path in run.iterdir()}
    trace = tmp_path / "trace.json"
    report = call("explain", str(run), "--json", "--timeline", str(trace))
    assert json.loads(report.stdout)["kernels"]
    assert json.loads(trace.read_text())["traceEvents"]
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_explain_a_function_of_a_file(tmp_path: Path):
    path = tmp_path / "script.py"
    path.write_text(
        "import treadle as td\n"
        "@td.compile\n"
        "def f(x, y):\n    return (x @ y).sum()\n"
        "def g(x):\n    return x + 1\n"
        "if __name__ == '__main__':\n    raise SystemExit('not to be run')\n"
    )
    shown = call("explain", f"{path}:f", "--arg", "f32[8,4]", "--arg", "f32[4,16]", "--json")
    assert json.loads(shown.output)["kernels"]
    assert json.loads(call("explain", f"{path}:g", "--arg", "f32[]", "--json").output)["kernels"]
    assert call("explain", f"{path}:g", "--arg", "f32[4]").exit_code == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["sample", "{}/none"], "is not a run folder"),
        (["explain", "{}/none"], "is not a run folder"),
        (["explain", "{}/none.py:f"], "none.py does not exist"),
        (["explain", "{}/script.py:g"], "has no function 'g'. Functions there: f."),
        (["explain", "{}/script.py:f", "--arg", "x32[2]"], "'x32[2]' is not a type. Allowed: such as f32[128,784]"),
        (["explain", "{}/broken.py:f"], "broken.py failed at line 1: ZeroDivisionError: division by zero"),
        (["train", "gpt", "--text", "{}/none"], "none does not exist"),
        (["train", "gpt", "--text", "{}/empty"], "has no text"),
        (["train", "gpt", "--text", "{}/script.py"], "a context of 128 needs at least 129"),
        (["train", "gpt", "--text", ""], "a path is empty"),
        (
            ["train", "gpt", "--text", "{}/short", "--context", "8"],
            "the validation part, 10% of the text, has 4 tokens",
        ),
        (["train", "gpt", "--layers", "0"], "layers is 0. Allowed: 1 to 1000."),
        (["train", "gpt", "--threads", "0"], "threads"),
        (["train", "gpt", "--resume", "{}", "--width", "8"], "--width cannot change when a run is resumed"),
    ],
)
def test_errors_are_one_message(args, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").write_text("")
    (tmp_path / "short").write_text("a" * 40)
    (tmp_path / "script.py").write_text("def f(x): return x\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    said = fails(monkeypatch, capsys, *[arg.format(tmp_path) for arg in args])
    assert message in said
    assert not (tmp_path / "runs").exists(), "a failed start leaves a run folder behind"


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["treadle", "--debug", "sample", "/nowhere"])
    with pytest.raises(td.CheckpointError):
        main()


def test_bench_starts_the_comparison(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert call("bench", "--help").exit_code == 0
    monkeypatch.setattr("treadle.cli.bench.SCRIPT", Path("/nowhere/run.py"))
    assert "Clone the repository and run `make bench` there" in fails(monkeypatch, capsys, "bench")


def test_ctrl_c_saves_and_says_how_to_go_on(text: str, tmp_path: Path):
    run = tmp_path / "run"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from treadle.cli import main; main()",
            "train",
            "gpt",
            "--text",
            text,
            "--run",
            str(run),
            "--steps",
            "1000000",
            *SMALL,
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    try:
        deadline = time.monotonic() + 60
        metrics = run / "metrics.jsonl"
        while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text().count("\n") > 5):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "stopped after step" in output
    assert f"treadle train gpt --resume {run}" in output
    assert (run / "checkpoint.safetensors").exists()


def test_a_prompt_that_cannot_be_used_is_not_shown(text, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    call("train", "gpt", "--text", text, "--run", str(run), "--steps", "2", "--no-explain", *SMALL)
    capsys.readouterr()
    assert "character 'é' at position 1 is not in the vocabulary" in fails(
        monkeypatch, capsys, "sample", str(run), "--prompt", "déf"
    )
    # Bytes that are not text, as a shell may pass them.
    assert "is not in the vocabulary" in fails(monkeypatch, capsys, "sample", str(run), "--prompt", "d\udce9")
    assert capsys.readouterr().out == ""
    assert "steps is 1, but 2 are done" in fails(
        monkeypatch, capsys, "train", "gpt", "--resume", str(run), "--steps", "1"
    )


def test_a_finished_run_says_so_and_is_not_measured_twice(text: str, tmp_path: Path):
    run = tmp_path / "run"
    call("train", "gpt", "--text", text, "--run", str(run), "--steps", "4", "--no-explain", *SMALL)
    metrics = (run / "metrics.jsonl").read_bytes()
    shown = call("train", "gpt", "--resume", str(run), "--no-explain")
    assert "all 4 steps are done; --steps 8 would train for 4 more" in shown.output
    assert (run / "metrics.jsonl").read_bytes() == metrics


def test_memory_that_python_cannot_have_is_one_message(monkeypatch, capsys):
    def run(**_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(commands, "main", run)
    assert "memory: no more can be had" in fails(monkeypatch, capsys, "train", "gpt")


@pytest.mark.parametrize("term", ["dumb", "xterm-256color"])
def test_only_names_are_dim_and_dumb_terminals_get_lines(term: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", term)
    monkeypatch.delenv("NO_COLOR", raising=False)
    console = Console(file=io.StringIO(), force_terminal=True, width=60)
    table(console, ("run", "runs/a"))
    with Progress(console) as progress:
        progress.show(Status(step=3, steps=9), now=True)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "3/9" in shown
    assert ("\x1b" in shown) is (term != "dumb")
    if term != "dumb":
        assert "\x1b[2mrun  \x1b[0mruns/a" in shown


def test_control_characters_are_not_sent_to_a_terminal():
    assert printable("a\x1b[2J\tb\n\x07é\u65e5") == "a\ufffd[2J\tb\n\ufffdé\u65e5"
