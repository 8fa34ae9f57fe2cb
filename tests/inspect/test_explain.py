"""What `explain` says of a small training step: everything named, counted and placed; nothing changed by it."""

import json
import re
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import treadle as td
from treadle import nn, optim
from treadle.core import ConfigError
from treadle.inspect import Explanation, explain
from treadle.ir import Graph, inputs_for
from treadle.jit import Plan
from treadle.ops import Exp

HERE = __file__
LAYERS = 3


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(72)
        self.fc = nn.Linear(72, 72)

    def forward(self, x: td.Tensor) -> td.Tensor:
        return x + td.tanh(self.fc(self.norm(x)))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.head = nn.Linear(72, 10)

    def forward(self, x: td.Tensor) -> td.Tensor:
        return self.head(self.blocks(x))


def training():
    td.manual_seed(0)
    model = Net()
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    @td.compile
    def step(x, y):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return model, optimizer, step


def batch(rows: int = 512):
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, 72), np.float32), rng.integers(0, 10, rows)


@pytest.fixture(scope="module")
def explained() -> Explanation:
    with td.config(threads=2):
        _, _, step = training()
        return explain(step, *batch())


def test_every_kernel_is_named_placed_and_counted(explained: Explanation):
    plan = explained.plan
    calls = sorted(number for kernel in explained.kernels for number in kernel.calls)
    assert calls == list(range(len(plan.steps)))
    stages = plan.stages()
    for kernel in explained.kernels:
        assert f"schedule:{kernel.name}" in stages
        assert kernel.places, f"{kernel.name} has no line"
        if kernel.flops > 1000:  # equal nodes are shared: a scalar program may have been made elsewhere first
            assert any(place.file == HERE for place in kernel.places)
        assert all(place.text for place in kernel.places)
        assert kernel.nbytes > 0
        assert kernel.intensity == pytest.approx(kernel.flops / kernel.nbytes)
        assert kernel.predicted_ns > 0
        assert kernel.ratio == pytest.approx(kernel.measured_ns / kernel.predicted_ns)
        assert kernel.limit in {"compute", *(level.name for level in explained.machine.levels)}
        assert 1 <= kernel.threads <= 2
    assert sum(kernel.share for kernel in explained.kernels) == pytest.approx(1)
    assert explained.flops == sum(step.kernel.flops for step in plan.steps)
    assert explained.machine.measured


def test_lines_are_those_of_the_program(explained: Explanation):
    texts = {place.text for kernel in explained.kernels for place in kernel.places}
    for line in (
        "return x + td.tanh(self.fc(self.norm(x)))",
        "return self.head(self.blocks(x))",
        "optimizer.step()",
        "loss = nn.functional.cross_entropy(model(x), y)",
    ):
        assert line in texts


def test_layers_that_are_equal_are_one_kernel(explained: Explanation):
    layers = [kernel for kernel in explained.kernels if len(kernel.calls) == LAYERS and kernel.kind == "matmul"]
    assert layers
    modules = {module for kernel in layers for place in kernel.places for module in place.modules}
    assert f"blocks.{{0..{LAYERS - 1}}}.fc" in modules, modules


def test_passes_count_nodes(explained: Explanation):
    names = [step.name for step in explained.passes]
    assert names[0] == "trace"
    assert names[-1] == "fuse"
    for before, after in zip(explained.passes, explained.passes[1:], strict=False):
        assert after.before == before.after
    assert explained.passes[-1].after == len(explained.plan.fusion.members)


def test_refusals_have_reasons_and_lines(explained: Explanation):
    assert explained.refusals
    for decision in explained.decisions:
        assert decision.reason
        assert decision.count >= 1
        assert decision.nbytes > 0
    assert any(decision.producer_places for decision in explained.refusals)
    reasons = {decision.reason for decision in explained.decisions if decision.fused}
    assert "as epilogue of the matrix product" in reasons
    # The rows of a layer norm's gradient and its sum over rows run in different loops.
    assert any(decision.reason.startswith("loops differ: 512 rows of 72") for decision in explained.refusals)
    # What met in one kernel after all is not listed as refused.
    fusion = explained.plan.fusion
    refused = {d for d in fusion.decisions if not d.fused}
    met = {d for d in refused if any({d.producer, d.consumer} <= set(inside) for inside in fusion.members.values())}
    assert sum(decision.count for decision in explained.refusals) == len(refused - met)


def test_memory_names_what_is_alive_at_the_peak(explained: Explanation):
    memory, arena = explained.memory, explained.plan.arena
    assert memory.peak == arena.peak >= memory.lower_bound > 0
    assert memory.without_reuse >= memory.lower_bound
    assert sum(blocks.count for blocks in memory.live) == len(arena.live_at_peak)
    assert 0 <= memory.lower_bound - sum(blocks.nbytes for blocks in memory.live) < 64 * len(arena.live_at_peak)
    assert all(blocks.made_by and blocks.values for blocks in memory.live)
    assert any(blocks.places for blocks in memory.live)
    parameters = 2 * 72 * LAYERS + (72 * 72 + 72) * LAYERS + 72 * 10 + 10
    assert memory.state >= 3 * 4 * parameters  # weights and two moments
    assert memory.arguments >= 512 * 72 * 4 + 512 * 8


def test_threads_waits_and_compile_time(explained: Explanation):
    schedule = explained.schedule
    assert len(schedule.threads) + schedule.idle == 2
    assert 0 < schedule.balance <= 1
    assert 0 < schedule.used <= 1
    assert sum(thread.runs for thread in schedule.threads) >= len(explained.plan.steps)
    assert next(iter(explained.compile_seconds)) == "trace"
    assert {"passes", "fuse", "schedule"} <= set(explained.compile_seconds)
    assert sum(explained.compiled.values()) == len(explained.kernels)


def test_text_says_it_all(explained: Explanation):
    text = str(explained)
    for title in ("passes", "kernels", "fusion", "memory", "threads", "compile time"):
        assert re.search(rf"^{title}$", text, re.MULTILINE)
    for kernel in explained.kernels:
        assert kernel.name in text
    assert max(map(len, text.splitlines())) <= 130
    narrow = Console(width=80, record=True, file=StringIO())
    narrow.print(explained)
    shown = narrow.export_text()
    assert explained.kernels[0].name in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_summary_is_short(explained: Explanation):
    lines = explained.summary().splitlines()
    assert 8 <= len(lines) <= 14
    assert max(map(len, lines)) <= 200
    words = [line.split()[0] for line in lines[:8]]
    assert words == ["program", "time", "threads", "passes", "fusion", "memory", "compile", "kernels"]


def test_json_keeps_its_form(explained: Explanation):
    found = json.loads(explained.to_json())
    assert found == json.loads(json.dumps(explained.to_dict()))
    assert found["format"] == 1
    assert list(found) == [
        "format", "name", "num_threads", "cpu", "inputs", "measured_on", "step", "passes", "kernels", "decisions",
        "memory", "schedule", "compile_seconds", "compiled", "recompiles", "machine",
    ]  # fmt: skip
    assert set(found["step"]) == {"measured_ns", "predicted_ns", "flops", "nbytes"}
    assert set(found["kernels"][0]) == {
        "name", "kind", "calls", "reads", "makes", "places", "tiles", "threads", "flops", "nbytes", "intensity",
        "limit", "predicted_ns", "measured_ns", "ratio", "share",
    }  # fmt: skip
    assert set(found["kernels"][0]["places"][0]) == {"file", "line", "modules"}
    assert set(found["decisions"][0]) == {
        "fused", "reason", "producer", "consumer", "producer_places", "consumer_places", "count", "nbytes",
    }  # fmt: skip
    assert set(found["memory"]) == {
        "peak", "lower_bound", "num_blocks", "without_reuse", "peak_call", "peak_kernel", "live", "arguments", "state",
        "results", "scratch",
    }  # fmt: skip
    assert set(found["memory"]["live"][0]) == {"count", "nbytes", "values", "made_by", "calls", "last", "places"}
    assert set(found["schedule"]) == {"threads", "idle", "step_ns", "balance", "used"}
    assert set(found["schedule"]["threads"][0]) == {"runs", "waits", "busy_ns", "waiting_ns"}


def test_timeline_has_all_threads_and_kernels(explained: Explanation, tmp_path: Path):
    path = tmp_path / "timeline.json"
    explained.write_timeline(path)
    events = json.loads(path.read_text())["traceEvents"]
    rows = {event["tid"] for event in events if event["name"] == "thread_name"}
    assert rows == {0, 1}
    pieces = [event for event in events if event.get("cat") == "kernel"]
    assert {event["args"]["call"] for event in pieces} == set(range(len(explained.plan.steps)))
    assert {event["tid"] for event in pieces} == set(range(len(explained.schedule.threads)))
    assert any(f"{Path(HERE).name}:" in line for event in pieces for line in event["args"]["lines"])
    assert all(event["dur"] >= 0 for event in pieces)
    with pytest.raises(ConfigError, match=r"cannot write the timeline to .*No such file"):
        explained.write_timeline(tmp_path / "none" / "timeline.json")


def test_explaining_changes_nothing():
    x, y = batch(32)
    model, optimizer, step = training()
    same_model, _, same_step = training()
    for _ in range(2):
        step(x, y)
        same_step(x, y)
    before = {name: np.array(value) for name, value in model.state_dict().items()}
    moments = {name: np.array(cell.value) for name, cell in optimizer.cells()}
    step.explain(x, y)
    step.plan(x, y).profile(3)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(np.array(value), before[name])
    for name, cell in optimizer.cells():
        np.testing.assert_array_equal(np.array(cell.value), moments[name])
    assert step.num_compiles == 1
    assert float(step(x, y)) == float(same_step(x, y))
    for name, value in same_model.state_dict().items():
        np.testing.assert_array_equal(np.array(value), np.array(model.state_dict()[name]))


def test_recompiles_are_listed_with_reasons():
    @td.compile
    def f(x, scale):
        return td.exp(x) * scale

    a = np.ones((4, 8), np.float32)
    f(a, 2.0)
    f(a[:2], 2.0)
    report = f.explain(a, 3.0)
    assert len(report.to_dict()["recompiles"]) == 2
    first, second = report.to_dict()["recompiles"]
    assert "f32[4,8]" in first
    assert "f32[2,8]" in first
    assert "compiled 3 times" in str(report)
    assert second in str(report)
    assert len(f.plans) == 3


def test_a_plan_that_no_function_stands_behind_runs_on_made_up_numbers():
    (x,) = inputs_for([td.zeros((100, 100)).node.type])
    plan = Plan(Graph((x,), (Exp()(x),)))
    report = plan.explain()
    assert isinstance(report, Explanation)
    assert "made-up numbers for 1 of 1 inputs" in report.measured_on
    assert report.name == ""
    assert plan.profile(4).total_ns > 0


@pytest.mark.parametrize("make", [lambda x: x, lambda x: 3, lambda x: x[:0] * 2.0, lambda x: (x, x + 1.0, x + 1.0)])
def test_programs_with_nothing_to_do(make):
    report = td.compile(make).explain(np.ones(4, np.float32))
    assert str(report)
    assert report.summary()
    assert json.loads(report.to_json())["format"] == 1


def test_one_thread():
    with td.config(threads=1):
        report = td.compile(lambda x: td.exp(x).sum()).explain(np.ones((512, 512), np.float32))
    assert report.num_threads == 1
    assert [thread.waits for thread in report.schedule.threads] == [0]
