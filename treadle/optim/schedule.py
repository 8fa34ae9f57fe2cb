"""Learning rates as functions of the step, 0 in the first: of a number outside, of a tensor in a compiled step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from treadle.core import ConfigError
from treadle.tensor import Value
from treadle.tensor import elementwise as ew

# From a number to a number, or from a tensor to a tensor.
Schedule = Callable[[Any], Any]


def constant(lr: float) -> Schedule:
    """Return the same rate at every step."""
    return lambda step: step * 0.0 + lr


def linear(start: float, end: float, steps: int) -> Schedule:
    """Return a straight line from `start` at step 0 to `end` at `steps`, and `end` from there on."""
    _positive("linear", steps)
    return lambda step: start + (end - start) * _progress(step, steps)


def cosine(start: float, end: float, steps: int) -> Schedule:
    """Return half a wave of the cosine from `start` at step 0 to `end` at `steps` (Loshchilov & Hutter 2017)."""
    _positive("cosine", steps)
    return lambda step: end + (start - end) * 0.5 * (1.0 + _cos(_progress(step, steps) * math.pi))


def warmup(steps: int, then: Schedule) -> Schedule:
    """Rise in equal parts to the first rate of `then`, reached in the last of `steps`; then follow `then`."""
    if steps == 0:
        return then
    _positive("warmup", steps)
    return lambda step: _choose(step < steps, (step + 1) / steps * then(0.0), then(step - steps))


def chain(*parts: tuple[int, Schedule], last: Schedule) -> Schedule:
    """Follow each schedule, from its own step 0, for its number of steps, and `last` after them."""
    for steps, _ in parts:
        _positive("chain", steps)

    def schedule(step: Any) -> Any:
        start = sum(steps for steps, _ in parts)
        rate = last(step - start)
        for steps, part in reversed(parts):
            start, end = start - steps, start
            rate = _choose(step < end, part(step - start), rate)
        return rate

    return schedule


def _progress(step: Any, steps: int) -> Any:
    """Return step / steps, limited to 0..1."""
    share = step / steps
    return ew.clip(share, 0.0, 1.0) if isinstance(share, Value) else min(max(share, 0.0), 1.0)


def _cos(x: Any) -> Any:
    return ew.cos(x) if isinstance(x, Value) else math.cos(x)


def _choose(condition: Any, yes: Any, no: Any) -> Any:
    if isinstance(condition, Value):
        return ew.where(condition, yes, no)
    return yes if condition else no


def _positive(what: str, steps: int) -> None:
    if steps < 1:
        raise ConfigError(f"{what}: steps is {steps}. It must be at least 1.")
