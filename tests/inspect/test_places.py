"""Places: module paths of equal layers read as one, figures in units people use."""

from pathlib import Path

import pytest

import treadle as td
from treadle.inspect.places import layers, places_of, short_path
from treadle.inspect.tables import count, duration
from treadle.ir import Source


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([], ()),
        (["wte"], ("wte",)),
        (["blocks.3.fc"], ("blocks.3.fc",)),
        (["blocks.0.fc", "blocks.1.fc", "blocks.2.fc"], ("blocks.{0..2}.fc",)),
        (["blocks.0.fc", "head", "blocks.2.fc"], ("blocks.{0,2}.fc", "head")),
        (["a.0.b.5", "a.1.b.6"], ("a.{0..1}.b.{5..6}",)),
        (["ln1.x", "ln2.x"], ("ln1.x", "ln2.x")),
        (["0", "1", "10"], ("{0..1,10}",)),
    ],
)
def test_layers(names, shown):
    assert layers(names) == shown


def test_places_join_the_modules_of_a_line():
    sources = [Source("a.py", 3, "b.0"), None, Source("a.py", 9), Source("a.py", 3, "b.1"), Source("a.py", 3, "b.1")]
    first, second = places_of(sources)
    assert (first.file, first.line, first.modules) == ("a.py", 3, ("b.{0..1}",))
    assert str(first) == "a.py:3 in b.{0..1}"
    assert str(second) == "a.py:9"
    assert second.text == ""


def test_figures():
    assert [count(n) for n in (0, 999, 1000, 25_600, 3.2e6, 4.5e12)] == [
        "0 ", "999 ", "1.00 k", "25.6 k", "3.20 M", "4.50 T",
    ]  # fmt: skip
    assert [duration(n) for n in (0, 999, 1000, 25_600, 3.2e6, 45e9)] == [
        "0 ns", "999 ns", "1.00 us", "25.6 us", "3.20 ms", "45.0 s",
    ]  # fmt: skip


def test_under_the_command_a_line_is_that_of_the_model():
    package = Path(td.__file__).parent
    names = {"x": td.zeros(3)}
    # Two ops, as equal nodes are one and keep the line that made them first.
    exec(compile("def model(scale): return x * scale", str(package / "nn" / "made_up.py"), "exec"), names)
    exec(compile("\ndef command(): return model(3.25)", str(package / "cli" / "made_up.py"), "exec"), names)
    exec(compile("\n\ndef user(): return model(4.25)", "somebody.py", "exec"), names)
    found = [names[name]().node.source for name in ("command", "user")]
    assert [(short_path(source.file), source.line) for source in found] == [
        ("treadle/nn/made_up.py", 1), ("somebody.py", 3),
    ]  # fmt: skip
