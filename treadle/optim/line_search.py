"""How far to go along a direction: to where the strong Wolfe conditions hold (Nocedal and Wright 2006, 3.5, 3.6).

The loss must fall by a share of what its slope promises, and the slope must become flat by a share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from treadle.tensor import Array

ARMIJO = 1e-4  # share of the promised fall that is asked for
CURVATURE = 0.9  # share of the first slope that may be left
SHORTEST = 1e-9  # changes of a parameter that are not worth another evaluation
EDGE = 0.1  # how far a trial keeps from the ends of the interval, as a share of it


@dataclass(frozen=True)
class Point:
    """A place on the line: how far along the direction, the loss, its gradient, and its slope along the line."""

    t: float
    loss: float
    grad: Array
    slope: float


Evaluate = Callable[[float], Point]


def strong_wolfe(evaluate: Evaluate, start: Point, t: float, size: float, limit: int) -> tuple[Point, int]:
    """Return a point that keeps the conditions, or the best found within `limit` trials, and the number of evaluations.

    Args:
        evaluate: the point at a distance.
        start: the point at distance 0.
        t: the first distance to try.
        size: the largest element of the direction: what a distance changes in a parameter at most.
        limit: number of trials.
    """
    before, point = start, evaluate(t)
    for trials in range(limit):
        rose = _too_high(point, start) or (trials > 1 and point.loss >= before.loss)
        if not rose and _flat(point, start):
            return point, trials + 1
        if rose or point.slope >= 0:
            return _zoom(evaluate, start, (before, point), size, limit - trials, trials + 1)
        t = cubic_minimum(before, point, point.t + 0.01 * (point.t - before.t), point.t * 10)
        before, point = point, evaluate(t)
    return min(start, point, key=_loss), limit + 1


def _zoom(
    evaluate: Evaluate, start: Point, ends: tuple[Point, Point], size: float, limit: int, count: int
) -> tuple[Point, int]:
    """Return a point between two that have one with the conditions between them; `count` evaluations were made."""
    low, high = sorted(ends, key=_loss)
    near_end = False
    for _ in range(limit):
        left, right = min(low.t, high.t), max(low.t, high.t)
        if (right - left) * size < SHORTEST:
            break
        t = cubic_minimum(low, high, left, right)
        margin = EDGE * (right - left)
        # A trial close to an end is let pass once; the next one is moved inwards, lest the interval shrink by nothing.
        near = min(right - t, t - left) < margin
        if near and (near_end or t >= right or t <= left):
            t = right - margin if right - t < t - left else left + margin
            near = False
        near_end = near
        point, count = evaluate(t), count + 1
        if _too_high(point, start) or point.loss >= low.loss:
            low, high = sorted((low, point), key=_loss)
            continue
        if _flat(point, start):
            return point, count
        low, high = point, (low if point.slope * (high.t - low.t) >= 0 else high)
    return low, count


def cubic_minimum(a: Point, b: Point, low: float, high: float) -> float:
    """Return where the cubic through two points with their slopes is least, within limits; else their middle."""
    if a.t == b.t:
        return (low + high) / 2
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2
    near, far = (a, b) if a.t <= b.t else (b, a)
    d2 = math.sqrt(square)
    bottom = far.slope - near.slope + 2 * d2
    if bottom == 0:
        return (low + high) / 2
    t = far.t - (far.t - near.t) * ((far.slope + d2 - d1) / bottom)
    return min(max(t, low), high)


def _loss(point: Point) -> float:
    return point.loss


def _too_high(point: Point, start: Point) -> bool:
    return point.loss > start.loss + ARMIJO * point.t * start.slope


def _flat(point: Point, start: Point) -> bool:
    return abs(point.slope) <= -CURVATURE * start.slope
