"""The training loop: one compiled step, progress, checkpoints, and what happens when it is interrupted or goes wrong.

Everything a step depends on is a function of the configuration and the step's number, or is in the checkpoint. So a run
that goes on from a checkpoint computes the same bits as one that was never interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from treadle.core import CheckpointError, NonFiniteError
from treadle.jit import Compiled, compile
from treadle.nn import Module
from treadle.optim import Optimizer, Schedule, clip_grad_norm_
from treadle.tensor import Tensor, set_grad_enabled
from treadle.tensor.creation import asarray
from treadle.tensor.random import default_generator

from . import atomic, checkpoint, curve
from .checkpoint import Checkpoint
from .config import CALIBRATION_STEPS
from .finite import first_not_finite
from .interrupt import Interrupt
from .progress import Progress, Status
from .run import Run

Batch = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
CALIBRATION_SHARE = 0.1  # of the time to train for is spent before its number of steps is decided
SMOOTHING = 0.05  # weight of the newest step in the speed that is shown


class Source(Protocol):
    """Batches by number."""

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, always the same one."""
        ...


@dataclass(frozen=True)
class Plan:
    """How long to train and how often to look.

    Attributes:
        steps: number of steps; 0 when `seconds` decides.
        seconds: time to train for.
        schedule: makes the learning rate's schedule once the number of steps is known.
        warmup: steps during which the schedule does not depend on their number; more than are timed for `seconds`.
        clip: largest gradient norm, 0 for none.
        accumulate: rounds of gradients a batch is parted into.
        evaluations: times the validation loss is measured, each on `eval_batches` batches.
        checkpoint_seconds: at least this long between checkpoints.
    """

    steps: int
    seconds: float
    schedule: Callable[[int], Schedule]
    warmup: int
    clip: float = 0.0
    accumulate: int = 1
    evaluations: int = 8
    eval_batches: int = 8
    checkpoint_seconds: float = 20.0


@dataclass(frozen=True)
class Outcome:
    """How training ended; `interrupted` names the signal that stopped it."""

    step: int
    steps: int
    validation: float
    seconds: float
    interrupted: str | None = None


class Trainer:
    """Trains a model on batches.

    Args:
        model: what is trained; `loss(x, y)` is what it is trained on.
        loss: from a batch's two tensors to a scalar.
        optimizer: changes the model's parameters.
        train: batches to train on.
        validation: batches to measure on.
        plan: how long and how often.
        run: where to write.
        facts: what to keep in checkpoints besides, and compare when one is loaded.
        decided: called with the number of steps once it is known.
        progress: where to show how it goes.
    """

    def __init__(
        self,
        model: Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: Optimizer,
        train: Source,
        validation: Source,
        *,
        plan: Plan,
        run: Run,
        facts: dict[str, Any] | None = None,
        decided: Callable[[int], object] = lambda steps: None,
        progress: Progress | None = None,
    ) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.train_source = train
        self.validation_source = validation
        self.plan = plan
        self.run = run
        self.facts = dict(facts or {})
        self.decided = decided
        self.progress = progress or Progress()
        self.step = 0
        self.steps = plan.steps
        self.validation = math.nan
        self.compiled: Compiled[..., tuple[Tensor, Tensor]] = compile(self._step)
        self._evaluate = compile(self._measure)
        self._tokens = train.batch(0)[0].size  # of one step
        self._saved_at = time.monotonic()

    # --- one step

    def _step(self, x: Any, y: Any) -> tuple[Tensor, Tensor]:
        """Return the loss and the gradient's norm (0 when it is not needed), having updated the model."""
        self.optimizer.zero_grad()
        loss = self.differentiated(x, y)
        norm = clip_grad_norm_(self.model.parameters(), self.plan.clip) if self.plan.clip else loss * 0.0
        self.optimizer.step()
        return loss, norm

    def differentiated(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss, its gradient added up over the rounds."""
        rounds = self.plan.accumulate
        if rounds == 1:
            loss = self.loss(x, y)
            loss.backward()
            return loss.detach()
        total: Tensor | None = None
        for part_x, part_y in zip(x.chunk(rounds), y.chunk(rounds), strict=True):
            loss = self.loss(part_x, part_y) / rounds
            loss.backward()
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None
        return total

    def _measure(self, x: Any, y: Any) -> Tensor:
        with set_grad_enabled(False):
            return self.loss(x, y)

    def evaluate(self) -> float:
        """Return the validation loss: the mean over the same batches every time."""
        self.model.eval()
        try:
            losses = [float(self._evaluate(*self.validation_source.batch(i))) for i in range(self.plan.eval_batches)]
        finally:
            self.model.train()
        return math.fsum(losses) / len(losses)

    def _do_step(self) -> tuple[float, float, float]:
        """Do step `self.step`; return loss, gradient norm and learning rate."""
        # While the number of steps is unknown the schedule is in its warm-up and does not depend on it.
        rate = float(self.plan.schedule(self.steps or 10**9)(self.step))
        for group in self.optimizer.param_groups:
            group.lr = rate
        loss, norm = self.compiled(*self.train_source.batch(self.step))
        return float(loss), float(norm), rate

    # --- the loop

    def fit(self) -> Outcome:
        """Train to the end, or until interrupted; return how it ended."""
        started = time.monotonic()
        self.model.train()
        status = Status(self.step, self.steps)
        with Interrupt() as interrupt, self.progress:
            if self.step == 0:
                self.save()
                self._measured(status)
            times: list[float] = []
            while not (self.steps and self.step >= self.steps):
                begun = time.monotonic()
                loss, norm, rate = self._do_step()
                if not (math.isfinite(loss) and math.isfinite(norm)):
                    self._stop_not_finite(loss, norm)
                self.step += 1
                self.run.log(step=self.step, loss=loss, norm=norm, lr=rate)
                times.append(time.monotonic() - begun)
                if not self.steps:
                    self._decide(times, started)
                self._show(status, loss, rate, times)
                if self.steps and self.step < self.steps and self._evaluates(self.step):
                    self._measured(status)
                if interrupt:
                    break
                if time.monotonic() - self._saved_at >= self.plan.checkpoint_seconds:
                    self.save()
            if not interrupt and not self._was_measured():
                self._measured(status)
            self.save()
        self.run.close()
        name = None if interrupt.signal is None else interrupt.signal.name
        return Outcome(self.step, self.steps, self.validation, time.monotonic() - started, name)

    def _decide(self, times: list[float], started: float) -> None:
        """Turn the time to train for into a number of steps: once enough were timed, at latest when warm-up ends."""
        enough = len(times) >= CALIBRATION_STEPS
        early = time.monotonic() - started < CALIBRATION_SHARE * self.plan.seconds
        if self.step < self.plan.warmup and (early or not enough):
            return
        # The first step compiles. The evaluations to come are as long as a forward pass, a third of a step.
        usual = float(np.median(times[2:] or times))
        evaluations = self.plan.evaluations * self.plan.eval_batches * usual / 3
        left = self.plan.seconds - evaluations - sum(times[1:])
        self.steps = max(self.step + int(left / usual), self.step, self.plan.warmup, 1)
        self.decided(self.steps)

    def _evaluates(self, step: int) -> bool:
        """Whether the validation loss is measured after this many steps."""
        n, count = self.steps, self.plan.evaluations
        return step * count // n > (step - 1) * count // n

    def _was_measured(self) -> bool:
        """Whether the loss of this very step is known: that of a finished run which is resumed."""
        return any(record["step"] == self.step and "val_loss" in record for record in self.run.records())

    def _measured(self, status: Status) -> None:
        self.validation = status.validation = self.evaluate()
        self.run.log(step=self.step, val_loss=self.validation)
        self.progress.show(status, now=True)

    def _show(self, status: Status, loss: float, rate: float, times: list[float]) -> None:
        status.step, status.steps, status.loss, status.lr = self.step, self.steps, loss, rate
        if len(times) > 1:  # the first step compiles and says nothing about the speed
            speed, before = self._tokens / times[-1], status.tokens_per_second
            status.tokens_per_second = before + SMOOTHING * (speed - before) if before else speed
            if self.steps:
                status.seconds_left = (self.steps - self.step) * self._tokens / status.tokens_per_second
        self.progress.show(status)

    def _stop_not_finite(self, loss: float, norm: float) -> None:
        step = self.step + 1
        what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
        self.progress.say(f"step {step}: {what}; going back to the last checkpoint to find where it came from ...")
        self.run.close()
        found = checkpoint.load(self.run.checkpoint)
        self._set(found)
        try:
            # The step that failed has overwritten the weights it started from: the steps since the checkpoint are
            # deterministic, so doing them again brings the weights back.
            while self.step < step - 1:
                self._do_step()
                self.step += 1
            x, y = map(asarray, self.train_source.batch(self.step))
            self.optimizer.zero_grad()
            where = first_not_finite(self.model, lambda: self.loss(x, y))
        finally:
            self.optimizer.zero_grad()
            self._set(found)
        raise NonFiniteError(
            f"train: {what} in step {step}; the first value that is not finite is {where}. The checkpoint of step "
            f"{found.step} "
            f"is kept in {self.run.checkpoint}. Lower the learning rate, or set a limit on the gradient's norm (clip)."
        )

    # --- saving and going on

    def save(self) -> None:
        """Write a checkpoint of this moment."""
        self.run.flush()
        groups = {
            "model": {name: np.asarray(value) for name, value in self.model.state_dict().items()},
            "optimizer": {name: np.asarray(cell.value) for name, cell in self.optimizer.cells()},
            "random": {"default": np.asarray(default_generator.value)},
        }
        validation = None if math.isnan(self.validation) else self.validation
        facts = {**self.facts, "step": self.step, "steps": self.steps, "validation": validation}
        checkpoint.save(self.run.checkpoint, Checkpoint(groups, facts))
        self._saved_at = time.monotonic()

    def resume(self) -> None:
        """Go back to the run's checkpoint."""
        found = checkpoint.load(self.run.checkpoint)
        differs = [
            f"{name} is {found.facts.get(name)!r} there and {value!r} here"
            for name, value in self.facts.items()
            if found.facts.get(name) != value
        ]
        if differs:
            raise CheckpointError(
                f"resume: {self.run.checkpoint} is of another run: {'; '.join(differs)}. Resume it with the settings "
                "and text it was made with."
            )
        self._set(found)

    def _set(self, found: Checkpoint) -> None:
        self.model.load_state_dict(found.groups.get("model", {}))
        held, cells = found.groups.get("optimizer", {}), dict(self.optimizer.cells())
        wrong = sorted({*held} ^ {*cells}) or [n for n, cell in cells.items() if held[n].shape != cell.shape]
        if wrong:
            raise CheckpointError(
                f"resume: the optimiser's state in {self.run.checkpoint} does not fit ({', '.join(wrong[:5])}). "
                "Resume with the optimiser and model it was made with."
            )
        for name, cell in cells.items():
            cell.value = asarray(held[name])
        default_generator.value = asarray(found.groups["random"]["default"])
        self.step = found.step
        self.steps = self.steps or int(found.facts.get("steps", 0))
        validation = found.facts.get("validation")
        self.validation = math.nan if validation is None else float(validation)

    def draw_curve(self) -> None:
        """Draw the loss curve of the metrics so far."""
        records = list(self.run.records())
        train = [(float(r["step"]), float(r["loss"])) for r in records if "loss" in r]
        validation = [(float(r["step"]), float(r["val_loss"])) for r in records if "val_loss" in r]
        series = [curve.Series("train", "#7aa6da", train), curve.Series("validation", "#c0392b", validation)]
        atomic.replace_text(self.run.curve, curve.draw(f"loss of {self.run.folder.name}", series))
