"""The loop: going on bit for bit, being interrupted and killed, full disks, NaN, and checkpoints of others."""

import dataclasses
import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import treadle as td
from treadle.core import CheckpointError, ConfigError, MemoryLimitError, NonFiniteError
from treadle.train import atomic, checkpoint, gpt
from treadle.train.checkpoint import Checkpoint


def losses(folder: Path) -> dict[int, float]:
    found: dict[int, float] = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "loss" in record:
            assert record["step"] not in found, "a step is logged twice"
            found[record["step"]] = record["loss"]
    return found


def same_state(a: Path, b: Path) -> None:
    one, two = (checkpoint.load(folder / "checkpoint.safetensors") for folder in (a, b))
    assert one.facts == two.facts
    for group, arrays in one.groups.items():
        assert arrays.keys() == two.groups[group].keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, two.groups[group][name], err_msg=f"{group}:{name}")


class Nudge:
    """Batches, and something done before that of a step."""

    def __init__(self, source: Any, step: int, act: Any) -> None:
        self.source, self.step, self.act = source, step, act

    def batch(self, step: int) -> Any:
        if step == self.step:
            self.act()
        return self.source.batch(step)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_bit_for_bit(settings, start, kind):
    whole = start(settings, "whole")
    outcome = whole.trainer.fit()
    assert outcome.step == 12
    assert outcome.interrupted is None
    part = start(settings, "part")
    part.trainer.train_source = Nudge(part.trainer.train_source, 4, lambda: os.kill(os.getpid(), kind))
    before = signal.getsignal(kind)
    outcome = part.trainer.fit()
    assert signal.getsignal(kind) == before
    assert outcome.interrupted == kind.name
    assert outcome.step == 5
    td.manual_seed(99)  # what the process drew meanwhile must not matter
    again = gpt.resume(part.run.folder, progress=part.trainer.progress)
    assert again.trainer.step == 5
    assert again.trainer.fit().step == 12
    assert losses(part.run.folder) == losses(whole.run.folder)
    assert sorted(losses(whole.run.folder)) == list(range(1, 13))
    same_state(part.run.folder, whole.run.folder)
    first, last = losses(whole.run.folder)[1], losses(whole.run.folder)[12]
    assert last < first


def test_time_is_turned_into_steps_that_are_recorded(settings, start):
    made = start(settings.replace(steps=0, minutes=0.004, warmup=8))
    outcome = made.trainer.fit()
    assert outcome.step == outcome.steps >= 8
    recorded = made.run.read_config()
    assert recorded["steps"] == outcome.steps
    # The run is now defined by its steps: doing it again by them gives the same.
    again = start(settings.replace(steps=outcome.steps, warmup=8), "again")
    again.trainer.fit()
    same_state(again.run.folder, made.run.folder)


def test_accumulated_rounds_give_the_same_losses(settings, start):
    plain = start(settings.replace(dropout=0.0), "plain")
    plain.trainer.fit()
    parted = start(settings.replace(dropout=0.0, accumulate=2), "parted")
    parted.trainer.fit()
    a, b = losses(plain.run.folder), losses(parted.run.folder)
    np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-4)


def test_a_full_disk_leaves_the_checkpoint_before(settings, start, monkeypatch):
    made = start(settings)
    made.trainer.fit()
    before = made.run.checkpoint.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    made.run._log = None
    with pytest.raises(
        CheckpointError,
        match=r"step 12 cannot be written to .*: No space left on device \(0\.\d MB needed, .* free\)\. "
        r"The one written before, .*, is kept\. Free some space",
    ):
        made.trainer.save()
    assert made.run.checkpoint.read_bytes() == before
    assert sorted(p.name for p in made.run.folder.iterdir() if "tmp" in p.name) == []


def test_a_write_that_fails_half_way_leaves_the_file_before(tmp_path):
    path = tmp_path / "file"
    atomic.replace_text(path, "old")

    def write(temporary: Path) -> None:
        temporary.write_text("ne")
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        atomic.replace(path, write)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_error_of_the_system_names_the_file_that_was_to_be_replaced(tmp_path):
    path = tmp_path / "file"

    def write(temporary: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left on device") as caught:
        atomic.replace(path, write)
    assert caught.value.filename == str(path)


def test_the_first_module_that_is_not_finite_is_named(settings, start):
    made = start(settings.replace(dropout=0.0, checkpoint_seconds=0))
    weight = made.model.blocks[0].mlp.fc.weight

    def poison() -> None:
        weight.value = weight.value * math.inf

    made.trainer.train_source = Nudge(made.trainer.train_source, 5, poison)
    with pytest.raises(
        NonFiniteError,
        match=r"the loss is nan in step 6; the first value that is not finite is the output of "
        r"blocks\.0\.mlp\.fc \(Linear\), whose parameter weight is not finite\. The checkpoint of step 5 is kept",
    ):
        made.trainer.fit()
    found = checkpoint.load(made.run.checkpoint)
    assert found.step == 5
    assert all(np.isfinite(a).all() for a in found.groups["model"].values())


def test_the_steps_since_the_checkpoint_are_done_again_to_find_the_module(settings, start):
    made = start(settings.replace(dropout=0.0))
    made.trainer.plan = dataclasses.replace(made.trainer.plan, clip=0.0, schedule=lambda steps: lambda step: 1e25)
    with pytest.raises(
        NonFiniteError, match=r"in step \d+; the first value that is not finite is the .*step 0 is kept"
    ) as info:
        made.trainer.fit()
    assert "Lower the learning rate" in str(info.value)
    assert checkpoint.load(made.run.checkpoint).step == 0


def test_a_gradient_that_is_not_finite_is_found(settings, start):
    made = start(settings.replace(dropout=0.0))
    model = made.model

    def loss(x: Any, y: Any) -> Any:
        # sqrt at 0: the value is finite, its derivative is not.
        return model.loss(x, y) + (model.lnf.weight * 0.0).sqrt().sum()

    made.trainer.loss = loss
    with pytest.raises(NonFiniteError, match=r"the gradient's norm is nan in step 1; .* the gradient of lnf\.weight"):
        made.trainer.fit()


def test_a_checkpoint_that_is_cut_short_or_of_others_is_refused(settings, start, tmp_path):
    made = start(settings.replace(steps=1, warmup=0))
    made.trainer.fit()
    folder, path = made.run.folder, made.run.checkpoint
    data = path.read_bytes()
    for size in (0, 7, 100, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(CheckpointError, match=rf"checkpoint\.safetensors \({size} bytes\) is damaged or cut short"):
            gpt.resume(folder)
        with pytest.raises(CheckpointError, match="is damaged or cut short"):
            gpt.load(folder)
    path.write_bytes(data)
    made.run.write_config(settings.replace(steps=1, width=16).to_dict())
    with pytest.raises(
        CheckpointError, match=r"is of another run: model is \{.*'width': 8.*\} there and \{.*'width': 16"
    ):
        gpt.resume(folder)
    made.run.write_config(settings.to_dict())
    Path(settings.text[0]).write_text("another text, of the same characters? no.\n" * 40)
    with pytest.raises(CheckpointError, match="text_sha256 is"):
        gpt.resume(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors does not exist"):
        gpt.load(folder)
    with pytest.raises(CheckpointError, match=r"is not a run folder: it has no config\.json"):
        gpt.resume(tmp_path / "nothing")
    made.run.config.write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is not JSON"):
        gpt.resume(folder)


def test_a_safetensors_file_of_others_is_no_checkpoint(tmp_path):
    td.nn.save({"a": np.zeros(2)}, tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"is a safetensors file but no checkpoint of a run \(format None"):
        checkpoint.load(tmp_path / "x")


def test_checkpoints_keep_every_dtype_and_shape(tmp_path):
    arrays = {
        "half": np.asarray(td.ones((3,), dtype="bfloat16")),
        "scalar": np.array(3),
        "empty": np.zeros((0, 3), np.float32),
        "turned": np.arange(6.0).reshape(2, 3).T,
    }
    checkpoint.save(tmp_path / "c", Checkpoint({"g": arrays, "none": {}}, {"step": 4, "name": "x"}))
    found = checkpoint.load(tmp_path / "c")
    assert found.step == 4
    assert found.facts["name"] == "x"
    assert set(found.groups) == {"g", "none"}
    for name, array in arrays.items():
        assert found.groups["g"][name].dtype == array.dtype
        assert found.groups["g"][name].shape == array.shape
        np.testing.assert_array_equal(found.groups["g"][name], array)
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_run_is_not_written_over(settings, start):
    start(settings)
    with pytest.raises(
        ConfigError, match=r"holds a run already\. Go on with it \(--resume .*run\), or name another folder"
    ):
        start(settings)


def test_metrics_of_a_killed_process_are_repaired(settings, start):
    made = start(settings)
    made.run.log(step=1, loss=3.0)
    made.run.log(step=2, loss=2.0)
    made.run.close()
    with made.run.metrics.open("a") as file:
        file.write('{"step": 3, "lo')
    assert [r["step"] for r in made.run.records()] == [1, 2]
    made.run.truncate(1)
    assert made.run.metrics.read_text() == '{"step": 1, "loss": 3.0}\n'


KILLED = """
import sys
from pathlib import Path
from treadle.train import TrainConfig, gpt
import json
settings = TrainConfig.of(json.loads(sys.argv[1]))
made = gpt.create(settings, Path(sys.argv[2]))
made.trainer.fit()
"""


def test_kill_nine_and_resume_give_the_losses_of_an_uninterrupted_run(settings, start, tmp_path):
    settings = settings.replace(steps=400, checkpoint_seconds=0.05)
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, json.dumps(settings.to_dict()), str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            lines = (folder / "metrics.jsonl").read_text().count("\n") if (folder / "metrics.jsonl").exists() else 0
            if lines > 30:
                break
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    again = gpt.resume(folder, progress=start(settings, "unused").trainer.progress)
    assert 0 < again.trainer.step < 400
    again.trainer.fit()
    whole = start(settings, "whole")
    whole.trainer.fit()
    assert losses(folder) == losses(whole.run.folder)
    same_state(folder, whole.run.folder)


def test_a_model_that_does_not_fit_into_memory_is_refused_at_once(settings, start, tmp_path):
    with pytest.raises(
        MemoryLimitError,
        match=r"a model of 103\.\d\d G parameters needs 16\d\d\.\d GB for .*; \d+\.\d GB are available\. Choose fewer",
    ):
        start(settings.replace(layers=2, width=65536))
    assert not (tmp_path / "run").exists()
