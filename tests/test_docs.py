"""What the documentation shows is what happens: the README's example, the tour, examples in docstrings, the index.

The page of coverage names what there is, and nothing is missing from it.
"""

import doctest
import importlib
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHOWN = [p for p in sorted((ROOT / "treadle").rglob("*.py")) if ">>> " in p.read_text()]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


def test_the_readmes_example_trains(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    exec(compile(block, "README.md", "exec"), {})
    assert float(capsys.readouterr().out) < 0.2


def test_the_tour_shows_what_happens() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "tour.py"))
    assert (ROOT / "docs" / "tour.md").read_text() == script["tour"](), "docs/tour.md is out of date: run `make fix`"


def test_every_name_is_there_or_has_a_reason() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "coverage.py"))
    page = (ROOT / "docs" / "coverage.md").read_text()
    assert page == script["coverage"](), "docs/coverage.md is out of date: run `make fix`"


def test_a_name_without_a_reason_and_a_reason_without_a_name_stop_the_page() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "coverage.py"))
    section, reasons = script["Section"], script["REASONS"]
    with pytest.raises(SystemExit, match=r"torch\.nn\.Widget is missing and REASONS does not say why"):
        section("torch.nn", ("Linear", "Widget"), importlib.import_module("treadle.nn")).page()
    reasons["x"] = {"Linear": "no"}
    with pytest.raises(SystemExit, match=r"REASONS says why x\.Linear is missing, and it is not"):
        section("x", ("Linear",), importlib.import_module("treadle.nn")).page()


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.stem)
def test_examples_in_docstrings(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried
    assert not failed


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_is_in_the_index(path: Path) -> None:
    title = path.read_text().splitlines()[0].removeprefix(f"# {path.name[:3]}: ")
    line = f"| [{path.name[:3]}]({path.name}) | {title[0].upper()}{title[1:]} |"
    assert line in (ROOT / "docs" / "decisions" / "README.md").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "how-to").glob("*.md")), ids=lambda path: path.stem)
def test_what_a_how_to_says_works(path: Path) -> None:
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE))
    # In a process of its own: it adds ops to the registry.
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)
