import json
from pathlib import Path

from treadle.runtime.profile import Profile, TaskTime

STEP = (
    TaskTime(0, 0, 0, 8, 0, 4000),
    TaskTime(0, 1, 0, 1, 4000, 5000),
    TaskTime(1, 0, 8, 16, 100, 3100),
    TaskTime(1, -1, 0, 0, 3100, 5050),
    TaskTime(1, 2, 0, 1, 5050, 6000),
)
SLOW = tuple(time._replace(start_ns=3 * time.start_ns, stop_ns=3 * time.stop_ns) for time in STEP)
NAMES = ("matmul", "relu", "sum")


def test_times_are_added_per_kernel_and_thread() -> None:
    profile = Profile(NAMES, (STEP,))
    assert profile.total_ns == 6000
    assert profile.num_threads == 2
    assert profile.busy_ns == (5000, 3950)
    assert [(k.name, k.num_pieces, k.elapsed_ns, k.busy_ns) for k in profile.kernels()] == [
        ("matmul", 2, 4000, 7000),
        ("relu", 1, 1000, 1000),
        ("sum", 1, 950, 950),
    ]


def test_several_steps_give_medians() -> None:
    profile = Profile(NAMES, (STEP, SLOW, STEP))
    assert profile.total_ns == 6000
    assert profile.kernels()[0].busy_ns == 7000
    assert profile.busy_ns == (5000, 3950)


def test_the_trace_holds_every_record_of_every_thread(tmp_path: Path) -> None:
    profile = Profile(NAMES, (STEP, STEP))
    profile.save_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [e["args"]["name"] for e in events if e["ph"] == "M"] == ["thread 0", "thread 1"]
    timed = [e for e in events if e["ph"] == "X"]
    assert len(timed) == 10
    assert timed[0] == {
        "name": "matmul",
        "cat": "kernel",
        "ph": "X",
        "pid": 0,
        "tid": 0,
        "ts": 0.0,
        "dur": 4.0,
        "args": {"step": 0, "kernel": 0, "tiles": "0 to 8"},
    }
    assert [e["name"] for e in timed if e["cat"] == "wait"] == ["wait", "wait"]
    assert timed[5]["ts"] == 6.0  # the second step follows the first


def test_the_text_shows_shares() -> None:
    lines = str(Profile(NAMES, (STEP,))).splitlines()
    assert lines[0] == "step: 6.0 us over 2 threads, 75% of their time in kernels (median of 1)"
    assert lines[1].split() == ["7.0", "us", "78.2%", "matmul", "(kernel", "0,", "2", "pieces)"]


def test_nothing_was_run() -> None:
    assert Profile((), ()).kernels() == ()
    assert Profile((), ((),)).total_ns == 0
    assert "0.0 us" in str(Profile((), ()))
