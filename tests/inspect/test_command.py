"""`treadle explain FILE.py:FUNCTION`: where the arguments come from, and what is printed where."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from treadle.cli.explain import explain
from treadle.core import ConfigError, TreadleError

SCRIPT = """
import sys
import numpy as np
import treadle as td

@td.compile
def called_at_import(x):
    return td.exp(x)

@td.compile
def called_by_main(x):
    return td.exp(x) + 1.0

@td.compile
def never_called(x):
    return x

def plain(x, y):
    return x @ y

called_at_import(np.ones((3, 5), np.float32))
called_at_import(np.ones((7, 5), np.float32))
print("loading", __name__, sys.argv)

if __name__ == "__main__":
    called_by_main(np.ones((2, 9), np.float32))

    def outer():
        @td.compile
        def inner(x):
            return td.exp(x) * 2.0
        inner(np.ones(11, np.float32))

    outer()
    sys.exit(3)
"""


def call(*args: str) -> Result:
    return CliRunner().invoke(explain, args, catch_exceptions=False)


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return str(path)


@pytest.mark.parametrize(
    ("name", "inputs", "times"),
    [
        ("called_at_import", ["f32[7,5]"], 2),
        ("called_by_main", ["f32[2,9]"], 1),
        ("inner", ["f32[11]"], 1),
        ("outer.<locals>.inner", ["f32[11]"], 1),
    ],
)
def test_a_function_is_explained_for_the_call_the_file_makes(script, name, inputs, times):
    before = (sys.argv[:], sys.path[:])
    found = json.loads(call(f"{script}:{name}", "--json").stdout)
    assert found["inputs"] == inputs
    assert len(found["recompiles"]) == times - 1
    assert "on the data of the inputs; state is copied first, so nothing changes" in found["measured_on"]
    # Equal programs are one in a process, and keep the lines of the first: compare the file by name.
    files = {Path(place["file"]).name for kernel in found["kernels"] for place in kernel["places"]}
    assert files == {Path(script).name}
    assert (sys.argv, sys.path) == before


@pytest.mark.parametrize(
    "example",
    [
        "EXAMPLE = (np.ones((4, 6), np.float32), td.ones((6, 2)))",
        "EXAMPLE = {'plain': (np.ones((4, 6), np.float32), td.ones((6, 2)))}",
        "def example_args():\n    return np.ones((4, 6), np.float32), td.ones((6, 2))",
        "def example_args():\n    return {'plain': [np.ones((4, 6), np.float32), td.ones((6, 2))]}",
    ],
)
def test_arguments_from_an_example(script, example):
    Path(script).write_text(SCRIPT + "\n" + example + "\n")
    assert json.loads(call(f"{script}:plain", "--json").stdout)["inputs"] == ["f32[4,6]", "f32[6,2]"]


def test_arguments_from_types(script):
    found = call(f"{script}:plain", "--json", "--arg", "f32[4,6]", "--arg", "f32[6, 2]")
    assert json.loads(found.stdout)["inputs"] == ["f32[4,6]", "f32[6,2]"]


def test_stages_by_name(script):
    names = call(f"{script}:called_at_import", "--stage", "list").stdout.split()
    assert names[0] == "trace"
    assert [name for name in names if name.startswith("llvm:")] == ["llvm:exp_7x5_f32"]
    assert call(f"{script}:called_at_import", "--stage", "trace").stdout.startswith("graph main(%0: f32[7,5])")
    every = call(f"{script}:called_at_import", "--stage", "assembly").stdout
    assert every.startswith("--- assembly:exp_7x5_f32\n")
    with pytest.raises(TreadleError, match="no stage 'nothing'"):
        call(f"{script}:called_at_import", "--stage", "nothing")


def test_the_report_and_the_timeline(script, tmp_path):
    timeline = tmp_path / "step.json"
    found = call(f"{script}:called_by_main", "--timeline", str(timeline))
    assert "exp_add_2x9_f32" in found.stdout
    assert "loading __main__" not in found.stdout
    assert json.loads(timeline.read_text())["traceEvents"]


def test_what_cannot_be_explained_says_how_it_could(script):
    with pytest.raises(ConfigError, match=r"does not call plain as a compiled function.*--arg f32\[128,784\].*EXAMPLE"):
        call(f"{script}:plain")
    with pytest.raises(ConfigError, match="does not call never_called"):
        call(f"{script}:never_called")
    with pytest.raises(ConfigError, match=r"no function .nope.\. Functions there: called_at_import.*, plain\."):
        call(f"{script}:nope")
    with pytest.raises(ConfigError, match="which function of"):
        call(script)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["never_called", "--arg", "f32[3]", "--arg", "f32[3]"],
            "compiling never_called for 2 arguments failed: TypeErr",
        ),
        (["failing", "--arg", "f32[3]"], r"failed at line 38: ValueError: not today\. Give the arguments it takes"),
        (["plain", "--arg", "f32[99999999999999]", "--arg", "f32[2]"], "does not fit into memory"),
        ([""], "which function of"),
    ],
)
def test_a_function_that_fails_is_one_message(tmp_path: Path, args: list[str], message: str):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.replace("sys.exit(3)", "") + "\ndef failing(x):\n    raise ValueError('not today')\n")
    with pytest.raises(TreadleError, match=message):
        call(f"{path}:{args[0]}", *args[1:])


def test_a_function_without_arguments_needs_none(tmp_path: Path):
    path = tmp_path / "script.py"
    path.write_text("import treadle as td\ndef f(n=3):\n    return td.ones((n,)) * 2\n")
    assert json.loads(call(f"{path}:f", "--json").stdout)["inputs"] == []
