"""`plan.stages()`: every form of a program by name, made when it is read; the printed graphs parse back."""

import numpy as np
import pytest

import treadle as td
from treadle.ir import parse
from treadle.jit import FORMS, Stages
from treadle.jit.stages import NoSuchStageError


@pytest.fixture(scope="module")
def stages() -> Stages:
    @td.compile
    def f(x, w):
        return td.softmax(td.tanh(x @ w), axis=-1)

    return f.plan(np.ones((256, 64), np.float32), np.ones((64, 32), np.float32)).stages()


def test_the_road_is_in_order(stages: Stages):
    names = list(stages)
    assert names[0] == "trace"
    assert names[-2:] == ["memory", "tasks"]
    assert names.index("decompose") < names.index("simplify") < names.index("fuse")
    kernels = [name.partition(":")[2] for name in names if name.startswith("formula:")]
    assert len(kernels) >= 2
    for form in FORMS:
        assert [name.partition(":")[2] for name in names if name.startswith(f"{form}:")] == kernels


def test_every_text_is_there(stages: Stages):
    assert len(stages) == len(list(stages))
    for name, text in stages.items():
        assert text.strip(), name
    for name in stages:
        form = name.partition(":")[0]
        text = stages[name]
        if form in ("trace", "decompose", "simplify", "formula"):
            assert __file__.rpartition("/")[2] in text or form != "trace"
            parse(text)
        elif form == "llvm":
            assert "define void @" in text
        elif form == "assembly":
            assert "ret" in text
    assert "softmax" in stages["trace"]
    assert "softmax" not in stages["simplify"]
    assert "fused" in stages["fuse"]
    assert "thread 0:" in stages["tasks"]
    assert "arena:" in stages["memory"]


def test_costly_texts_are_made_once_and_when_read():
    made: list[str] = []

    def make() -> str:
        made.append("llvm")
        return "text"

    stages = Stages({"llvm:k": make})
    assert "llvm:k" in stages
    assert list(stages) == ["llvm:k"]
    assert made == []
    assert stages["llvm:k"] == stages["llvm:k"] == "text"
    assert made == ["llvm"]


def test_an_unknown_stage_lists_those_there_are(stages: Stages):
    with pytest.raises(NoSuchStageError, match=r"there is no stage 'nope'\. Allowed: trace, .*llvm:KERNEL"):
        stages["nope"]
    with pytest.raises(NoSuchStageError, match=r"no stage 'llvm:nope'\. Allowed: llvm:\w+"):
        stages["llvm:nope"]
    assert stages.get("nope") is None


def test_two_kernels_of_one_name_are_told_apart():
    @td.compile
    def f(x):
        return td.exp(x.sum(axis=0)), td.exp(x.sum(axis=1))

    names = [n for n in f.plan(np.ones((48, 48), np.float32)).stages() if n.startswith("schedule:")]
    assert len(names) == len(set(names)) >= 2
