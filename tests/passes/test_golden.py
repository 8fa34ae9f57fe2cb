"""Graphs before and after passes, as text: `cases/*.txt`. `pytest --update` rewrites them; read the difference then.

A case is `--- before` and a graph, then for each pass in turn `--- after NAME` and the graph it leaves.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from treadle import ops  # noqa: F401  # the parser finds ops by name
from treadle.ir import parse, show, verify
from treadle.passes.decompose import DECOMPOSE
from treadle.passes.simplify import SIMPLIFY, SIMPLIFY_FAST

PASSES = {"decompose": DECOMPOSE, "simplify": SIMPLIFY, "simplify fast_math": SIMPLIFY_FAST}
CASES = sorted((Path(__file__).parent / "cases").glob("*.txt"))


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_case(path: Path, update: bool) -> None:
    comment, first, *parts = re.split(r"^--- (.*)\n", path.read_text(), flags=re.MULTILINE)
    assert first == "before"
    graph = parse(parts[0])
    text = f"{comment}--- before\n{show(graph)}\n"
    for title in parts[1::2]:
        graph = PASSES[title.removeprefix("after ")].apply(graph)
        verify(graph)
        text += f"--- {title}\n{show(graph)}\n"
        assert parse(show(graph)) == graph
    if update:
        path.write_text(text)
    assert path.read_text() == text


def test_there_are_cases() -> None:
    assert CASES
