"""L-BFGS: Newton's method with a Hessian guessed from the last steps and how the gradient changed along them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from treadle.core import CheckpointError, ConfigError, GradientError, TraceError, float64, int64
from treadle.tensor import Array, Cell, set_grad_enabled, state
from treadle.tensor.creation import asarray, zeros

from .line_search import Point, strong_wolfe
from .optimizer import Optimizer, Params, state_dtype

CURVED = 1e-10  # y's of a step that says something about the Hessian
SEARCHES = (None, "strong_wolfe")


@dataclass
class Memory:
    """What is known from the steps so far; the vectors are of all parameters, one after the other.

    Attributes:
        steps: the last steps s.
        changes: how the gradient changed in each, y.
        scale: the Hessian's inverse before the first of them, times the identity.
        direction: where the last step went.
        t: how far.
        grad: the gradient it started from.
        loss: the loss there.
        iterations: number of steps.
        evaluations: number of calls of the closure.
    """

    steps: list[Array] = field(default_factory=list[Array])
    changes: list[Array] = field(default_factory=list[Array])
    scale: float = 1.0
    direction: Array | None = None
    t: float = 0.0
    grad: Array | None = None
    loss: float = 0.0
    iterations: int = 0
    evaluations: int = 0

    def learn(self, grad: Array, size: int) -> None:
        """Take in how the gradient changed over the last step; only the last `size` are kept."""
        if self.direction is None or self.grad is None:
            return
        y, s = grad - self.grad, self.direction * self.t
        curvature = float(y @ s)
        if curvature > CURVED:
            self.steps, self.changes = [*self.steps, s][-size:], [*self.changes, y][-size:]
            self.scale = curvature / float(y @ y)

    def newton(self, grad: Array) -> Array:
        """Return minus the Hessian's inverse times the gradient, by the recursion over the steps and back."""
        q, shares = -grad, list[float]()
        pairs = list(zip(self.steps, self.changes, strict=True))
        for s, y in reversed(pairs):
            shares.append(float(s @ q) / float(y @ s))
            q = q - shares[-1] * y
        q = q * self.scale
        for (s, y), share in zip(pairs, reversed(shares), strict=True):
            q = q + (share - float(y @ q) / float(y @ s)) * s
        return q


class Kept:
    """The memory in cells, between one call of `step` and the next: all that must be saved to go on.

    Each step and change that can be remembered has a cell; zeros, which take no room, until there is one.
    """

    def __init__(self, count: int, dtype: Any, history_size: int) -> None:
        self._new = lambda: Cell(zeros((count,), dtype=dtype))
        self.pairs = [(self._new(), self._new()) for _ in range(history_size)]
        self.direction, self.grad = self._new(), self._new()
        self.numbers = Cell(zeros((3,), dtype=float64))  # scale, t, loss
        self.counts = Cell(zeros((3,), dtype=int64))  # pairs, iterations, evaluations

    def cells(self) -> Iterator[tuple[str, Cell]]:
        """Yield all cells by name."""
        for i, (step, change) in enumerate(self.pairs):
            yield f"old_stps.{i}", step
            yield f"old_dirs.{i}", change
        yield from (("d", self.direction), ("prev_flat_grad", self.grad))
        yield from (("numbers", self.numbers), ("counts", self.counts))

    def read(self) -> Memory:
        """Return what is remembered."""
        scale, t, loss = self.numbers.detach().tolist()
        pairs, iterations, evaluations = self.counts.detach().tolist()
        if not iterations:
            return Memory(evaluations=evaluations)
        steps, changes = ([cell[k].detach().numpy() for cell in self.pairs[:pairs]] for k in (0, 1))
        direction, grad = self.direction.detach().numpy(), self.grad.detach().numpy()
        return Memory(steps, changes, scale, direction, t, grad, loss, iterations, evaluations)

    def write(self, memory: Memory) -> None:
        """Remember this."""
        while len(self.pairs) < len(memory.steps):  # the setting was changed
            self.pairs.append((self._new(), self._new()))
        for cells, pair in zip(self.pairs, zip(memory.steps, memory.changes, strict=True), strict=False):
            for cell, value in zip(cells, pair, strict=True):
                cell.value = value
        for cell, value in ((self.direction, memory.direction), (self.grad, memory.grad)):
            cell.value = zeros(cell.shape, dtype=cell.dtype) if value is None else asarray(value)
        self.numbers.value = asarray([memory.scale, memory.t, memory.loss], dtype=float64)
        self.counts.value = asarray([len(memory.steps), memory.iterations, memory.evaluations], dtype=int64)


class LBFGS(Optimizer):
    """Limited-memory BFGS (Liu and Nocedal 1989), for losses without noise: up to `max_iter` steps in one.

    The closure computes the loss, calls `backward()` and returns the loss. Compile it, rather than the step, which
    decides by values what to do next: its own arithmetic, a few products of known vectors, is NumPy's. The step clears
    gradients before each call; an eager closure may do so, too, but a compiled one that does keeps its gradients to
    itself. All parameters are in one group.

    Args:
        params: what to optimise.
        lr: how far along each direction, or, with a line search, where it starts.
        max_iter: steps of each call.
        max_eval: calls of the closure in each call; 5/4 max_iter when None.
        tolerance_grad: stop when no element of the gradient is larger.
        tolerance_change: stop when parameters or loss change by less.
        history_size: number of steps that are remembered, each as two vectors of all parameters.
        line_search_fn: "strong_wolfe", or None for steps of `lr`.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        if line_search_fn not in SEARCHES:
            raise ConfigError(f"LBFGS: line_search_fn is {line_search_fn!r}. Allowed: None, 'strong_wolfe'.")
        if history_size < 1 or max_iter < 1:
            raise ConfigError(f"LBFGS: max_iter is {max_iter}, history_size {history_size}. Each must be at least 1.")
        super().__init__(
            params,
            lr,
            {
                "max_iter": max_iter,
                "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
                "tolerance_grad": tolerance_grad,
                "tolerance_change": tolerance_change,
                "history_size": history_size,
                "line_search_fn": line_search_fn,
            },
        )
        if len(self.param_groups) != 1:
            raise ConfigError(f"LBFGS: got {len(self.param_groups)} groups. It takes one: all share a direction.")
        self._kept = Kept(sum(p.size for p in self.parameters()), self._dtype(), history_size)

    @property
    def memory(self) -> Memory:
        """What is known from the steps so far."""
        return self._kept.read()

    def cells(self) -> Iterator[tuple[str, Cell]]:
        """Yield everything that must be saved to go on from here, by name."""
        yield from super().cells()
        for name, cell in self._kept.cells():
            yield f"history.{name}", cell

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do up to `max_iter` steps; return the loss before them."""
        if state.trace is not None:
            raise TraceError(
                "LBFGS: step() depends on values, which a compiled function does not know. Compile the closure, and "
                "call step(closure) outside."
            )
        if closure is None:
            raise ConfigError("LBFGS: step() needs a closure that computes the loss again and returns it.")
        memory = self.memory
        try:
            return self._steps(closure, memory)
        finally:
            self._kept.write(memory)

    def _steps(self, closure: Callable[[], Any], memory: Memory) -> Any:
        group = self.param_groups[0]
        first_loss = self._evaluate(closure, memory)
        loss, grad, used = float(first_loss), self._gradient(), 1
        if not grad.size or np.abs(grad).max() <= group.tolerance_grad:
            return first_loss
        for number in range(1, group.max_iter + 1):
            memory.learn(grad, group.history_size)
            memory.iterations += 1
            direction = memory.newton(grad)
            t = float(group.rate())
            if memory.iterations == 1:
                t *= min(1.0, 1.0 / float(np.abs(grad).sum()))
            slope = float(grad @ direction)
            memory.grad, memory.loss, memory.direction, memory.t = grad, loss, direction, t
            if slope > -group.tolerance_change:
                break
            last = number == group.max_iter
            if group.line_search_fn is None:
                self._move(self._values(), direction, t)
                if last:  # what the loss is there, the next call finds out
                    break
                loss, grad, count = float(self._evaluate(closure, memory)), self._gradient(), 1
            else:
                start, limit = Point(0.0, loss, grad, slope), group.max_eval - used
                point, count = self._search(closure, memory, start, t, direction, limit)
                loss, grad, memory.t = point.loss, point.grad, point.t
            used += count
            if (
                last
                or used >= group.max_eval
                or np.abs(grad).max() <= group.tolerance_grad
                or np.abs(direction * memory.t).max() <= group.tolerance_change
                or abs(loss - memory.loss) < group.tolerance_change
            ):
                break
        group.count.value = group.count.read() + 1
        return first_loss

    def _search(
        self, closure: Callable[[], Any], memory: Memory, start: Point, t: float, direction: Array, limit: int
    ) -> tuple[Point, int]:
        """Move to a point along the direction; return it and the number of evaluations."""
        values = self._values()

        def at(t: float) -> Point:
            self._move(values, direction, t)
            loss, grad = float(self._evaluate(closure, memory)), self._gradient()
            return Point(t, loss, grad, float(grad @ direction))

        point, count = strong_wolfe(at, start, t, float(np.abs(direction).max()), limit)
        self._move(values, direction, point.t)
        return point, count

    def _evaluate(self, closure: Callable[[], Any], memory: Memory) -> Any:
        memory.evaluations += 1
        self.zero_grad()
        with set_grad_enabled(True):
            loss = closure()
        if all(p.grad is None for p in self.parameters()):
            raise GradientError(
                "LBFGS: the closure left no gradients. It must call backward(); and, if it is compiled, leave "
                "zero_grad() out, which the step does."
            )
        return loss

    def _gradient(self) -> Array:
        """Return the gradients of all parameters as one vector; zeros where there is none."""
        parts = [np.zeros(p.size) if p.grad is None else p.grad.numpy().ravel() for p in self.parameters()]
        return np.concatenate(parts).astype(self._dtype())

    def _values(self) -> list[Array]:
        return [p.detach().numpy().astype(self._dtype()) for p in self.parameters()]

    def _dtype(self) -> Any:
        return np.result_type(*[state_dtype(p.dtype).numpy for p in self.parameters()])

    def _move(self, values: list[Array], direction: Array, t: float) -> None:
        """Set the parameters to values plus t times the direction."""
        start = 0
        for parameter, value in zip(self.parameters(), values, strict=True):
            part = direction[start : start + value.size].reshape(value.shape)
            parameter.value = asarray(value + t * part).astype(parameter.dtype)
            start += value.size

    def state_dict(self) -> dict[str, Any]:
        """Return the memory under PyTorch's names, as the state of parameter 0, and the settings."""
        found, m = super().state_dict(), self.memory
        if m.iterations:
            found["state"][0] = {
                "step": self.param_groups[0].count.value,
                "func_evals": m.evaluations,
                "n_iter": m.iterations,
                "d": m.direction,
                "t": m.t,
                "old_dirs": list(m.changes),
                "old_stps": list(m.steps),
                "ro": [1.0 / float(y @ s) for s, y in zip(m.steps, m.changes, strict=True)],
                "H_diag": m.scale,
                "prev_flat_grad": m.grad,
                "prev_loss": m.loss,
            }
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` (here or in PyTorch) returned; nothing is changed when it does not fit."""
        held: Mapping[str, Any] = state_dict["state"].get(0, {})
        memory = Memory()
        if "n_iter" in held:
            steps, changes = ([np.asarray(v) for v in held[name] or ()] for name in ("old_stps", "old_dirs"))
            direction, grad = (np.asarray(held[name]) for name in ("d", "prev_flat_grad"))
            count = sum(p.size for p in self.parameters())
            if any(v.shape != (count,) for v in (*steps, *changes, direction, grad)):
                raise CheckpointError(
                    f"LBFGS: the state has vectors of {direction.size} elements, the parameters {count}. Use the model "
                    "it was saved with."
                )
            memory = Memory(
                steps,
                changes,
                float(held["H_diag"]),
                direction,
                float(held["t"]),
                grad,
                float(held["prev_loss"]),
                int(held["n_iter"]),
                int(held["func_evals"]),
            )
        super().load_state_dict(state_dict)
        self._kept.write(memory)
