"""Settings and what is shown: wrong values are refused, names are checked, numbers are readable."""

import math
from xml.etree import ElementTree

import pytest
from rich.console import Console

from treadle.core import ConfigError
from treadle.train import Progress, Status, TrainConfig
from treadle.train.curve import MAX_POINTS, Series, draw, thinned, ticks
from treadle.train.progress import duration, panel, resident_bytes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layrs": 3}, r"there is no setting 'layrs'\. Allowed: text, vocabulary, validation, layers"),
        ({"layers": 0}, r"layers is 0\. Allowed: 1 to 1000"),
        ({"layers": 2.5}, r"layers is 2\.5, a float\. It must be a whole number, such as \d"),
        ({"lr": "fast"}, "lr is 'fast', a str. It must be a number"),
        ({"lr": float("nan")}, r"lr is nan\. Allowed"),
        ({"steps": True}, "steps is True, a bool"),
        ({"vocabulary": "words"}, "vocabulary is 'words'. Allowed: bytes, chars"),
        ({"heads": 5, "width": 16}, "width 16 is not a multiple of heads 5"),
        ({"batch": 5, "accumulate": 2}, "batch 5 cannot be parted into 2 equal rounds"),
        ({"steps": 0, "warmup": 3}, r"warmup is 3\. To train for minutes, the first 8 steps are timed"),
        ({"steps": 0, "minutes": 0.0}, "both steps and minutes are 0"),
        ({"dropout": 1.0}, r"dropout is 1\.0\. Allowed: 0\.0 to 0\.99"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig.of(settings)


def test_settings_go_through_json():
    config = TrainConfig(text=("a", "b"), lr=1)
    assert TrainConfig.of(config.to_dict()) == config
    assert config.to_dict()["text"] == ["a", "b"]


def test_durations():
    assert [duration(s) for s in (0.4, 59, 61, 3605, 7260)] == ["0s", "59s", "1m 01s", "1h 00m", "2h 01m"]


def test_progress_on_a_terminal_and_in_a_file(capsys):
    status = Status(step=3, steps=10, loss=1.5, validation=math.nan, tokens_per_second=1234.0, seconds_left=70.0)
    console = Console(width=120, force_terminal=True)
    with console.capture() as shown:
        console.print(panel(status))
    for text in ("3/10", "1.5000", "1,234", "1m 10s", "MB"):
        assert text in shown.get()
    with Progress(Console(width=120, force_terminal=False)) as progress:
        progress.show(status)
        progress.show(status)
        progress.show(status, now=True)
    assert capsys.readouterr().out.count("step 3/10  loss 1.5000  val loss -  tokens/s 1,234  left 1m 10s") == 2
    assert resident_bytes() > 1e6


def test_the_curve_is_a_picture():
    text = draw("a < b", [Series("train", "red", [(i, 5 / (i + 1)) for i in range(5000)]), Series("none", "blue", [])])
    tree = ElementTree.fromstring(text)
    lines = tree.findall("{*}polyline")
    assert len(lines) == 1
    points = lines[0].get("points").split()
    assert len(points) <= MAX_POINTS
    assert all(0 <= float(p.split(",")[0]) <= 720 and 0 <= float(p.split(",")[1]) <= 400 for p in points)
    ElementTree.fromstring(draw("empty", []))
    ElementTree.fromstring(draw("one", [Series("x", "red", [(1.0, 2.0)])]))


def test_ticks_are_round_and_enclose():
    assert ticks(0.13, 4.9) == [0, 1, 2, 3, 4, 5]
    assert ticks(2.0, 2.0)[0] <= 2.0 <= ticks(2.0, 2.0)[-1]
    for low, high in ((0, 1), (-3, 7), (1e-5, 3e-5), (100, 1e6)):
        found = ticks(low, high)
        assert found[0] <= low
        assert found[-1] >= high
        assert 3 <= len(found) <= 9


def test_thinning_keeps_means():
    assert thinned([(0, 1), (1, 2)]) == [(0, 1), (1, 2)]
    assert sum(y for _, y in thinned([(i, 2.0) for i in range(1201)])) == pytest.approx(2 * 401)
