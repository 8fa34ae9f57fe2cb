"""The loss of unaligned sequences: connectionist temporal classification, one recursion over time in logarithms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from treadle.core import ConfigError, DTypeError, ShapeError, float32
from treadle.tensor import Tensor, Value, creation
from treadle.tensor import elementwise as ew
from treadle.tensor.creation import asarray, full
from treadle.tensor.elementwise import where
from treadle.tensor.indexing import take_along_axis
from treadle.tensor.manipulation import broadcast_to, concat, stack
from treadle.tensor.promotion import Operand, as_tensor
from treadle.tensor.scan import scan

from .reduce import check_reduction

Lengths = Operand | Sequence[int]
NEVER = float("-inf")  # the logarithm of probability 0


def ctc_loss(
    log_probs: Operand,
    targets: Operand,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Return -log of the probability of a label sequence, summed over all its alignments (Graves et al. 2006).

    With the labels l' = (blank, l1, blank, l2, ..., blank) and a(t, s) the probability of l'[..s] at time t,

        a(t, s) = p_t(l'[s]) (a(t-1, s) + a(t-1, s-1) + [l'[s] is a label other than l'[s-2]] a(t-1, s-2))

    As in PyTorch, the gradient with respect to `log_probs` is softmax minus posterior, that of logits: right after
    `log_softmax`, which it passes unchanged.

    Args:
        log_probs: log probabilities [T, N, C], or [T, C] for one sequence.
        targets: class numbers [N, S], or those of all sequences one after the other in one axis.
        input_lengths: [N], how many of the T steps count.
        target_lengths: [N], how many of the S labels count.
        blank: the number of the class that stands for no label.
        reduction: "mean" divides by target lengths and averages over N; "sum"; "none" is one loss per sequence.
        zero_infinity: where no alignment fits into the steps, the loss is 0 and not infinite.

    Raises:
        ShapeError: shapes do not fit, or a length is larger than its axis (where lengths are known).
        ConfigError: blank is not a class.
    """
    check_reduction("ctc_loss", reduction)
    scores = as_tensor("ctc_loss", log_probs)
    if scores.ndim not in (2, 3) or not scores.dtype.is_float:
        raise ShapeError(f"ctc_loss: log_probs {scores.node.type!r} must be floats [T, N, C] or [T, C].")
    single = scores.ndim == 2
    if single:
        scores = scores.reshape((scores.shape[0], 1, scores.shape[1]))
    steps, count, classes = scores.shape
    if not 0 <= blank < classes:
        raise ConfigError(f"ctc_loss: blank is {blank}. Allowed: a class number, 0 to {classes - 1}.")
    in_lengths = _lengths("input_lengths", input_lengths, count, steps)
    out_lengths = _lengths("target_lengths", target_lengths, count, None)
    labels = _padded(as_tensor("ctc_loss", targets), out_lengths, target_lengths, count)
    dtype = scores.dtype
    wide = scores.astype(float32) if dtype.bits < 32 else scores
    losses = _losses(wide, labels, in_lengths, out_lengths, blank)
    if zero_infinity:
        losses = where(ew.isinf(losses), 0.0, losses)
    if reduction == "sum":
        return losses.sum().astype(dtype)
    if reduction == "mean":
        return (losses / ew.maximum(out_lengths, 1).astype(losses.dtype)).mean().astype(dtype)
    return (losses.reshape(()) if single else losses).astype(dtype)


def _losses(scores: Tensor, labels: Tensor, in_lengths: Tensor, out_lengths: Tensor, blank: int) -> Tensor:
    """Return the loss of each sequence, for scores [T, N, C] and labels [N, S]."""
    steps, count, _ = scores.shape
    most = labels.shape[1]
    states = 2 * most + 1
    # What stands behind a sequence's end is never read, but must be a class number.
    kept = creation.arange(most) < out_lengths.reshape((count, 1))
    labels = where(kept, labels, blank).astype("int64")
    blanks = full((count, most), blank, dtype="int64")
    extended = concat(
        (stack((blanks, labels), axis=2).reshape((count, 2 * most)), full((count, 1), blank, dtype="int64")), axis=1
    )
    before = (
        concat((full((count, min(2, states)), blank, dtype="int64"), extended[:, :-2]), axis=1) if most else extended
    )
    may_skip = ew.logical_and(ew.not_equal(extended, blank), ew.not_equal(extended, before))
    emitted = take_along_axis(scores, broadcast_to(extended, (steps, count, states)), axis=2)
    running = creation.arange(steps).reshape((steps, 1)) < in_lengths  # [T, N]
    never = full((count, 2), NEVER, dtype=scores.dtype)

    def step(alpha: Tensor, now: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[()]]:
        emission, counts = now
        shifted = concat((never, alpha), axis=1)
        one, two = shifted[:, 1 : states + 1], where(may_skip, shifted[:, :states], NEVER)
        new = ew.logaddexp(ew.logaddexp(alpha, one), two) + emission
        return where(counts.reshape((count, 1)), new, alpha), ()

    # Before the first step all probability is in the first state, from where the first two are reached.
    start = concat(
        (full((count, 1), 0.0, dtype=scores.dtype), full((count, states - 1), NEVER, dtype=scores.dtype)), axis=1
    )
    alpha, _ = scan(step, start, (emitted, running))
    end = 2 * out_lengths.reshape((count, 1))
    last = take_along_axis(alpha, end, axis=1).reshape((count,))
    label = take_along_axis(alpha, ew.maximum(end - 1, 0), axis=1).reshape((count,))
    losses = -ew.logaddexp(last, where(out_lengths > 0, label, NEVER))
    # Adds nothing but the gradient exp(log_probs): see the docstring of ctc_loss.
    total = where(running, ew.exp(scores).sum(axis=2), 0.0).sum(axis=0)
    return losses + (total - total.detach())


def _lengths(name: str, lengths: Any, count: int, most: int | None) -> Tensor:
    """Return lengths as int64[N]; known ones are checked."""
    tensor = lengths.read() if isinstance(lengths, Value) else asarray(np.asarray(lengths))
    if not tensor.dtype.is_integer:
        raise DTypeError(f"ctc_loss: {name} have dtype {tensor.dtype.name}. They must be integers.")
    if tensor.size != count or tensor.ndim > 1:
        raise ShapeError(f"ctc_loss: {name} {tensor.node.type!r} do not fit {count} sequences. Give one for each.")
    if not isinstance(lengths, Value) and count:
        low, high = int(np.min(lengths)), int(np.max(lengths))
        if low < 0 or (most is not None and high > most):
            raise ShapeError(
                f"ctc_loss: {name} go from {low} to {high}. Allowed: from 0{'' if most is None else f' to {most}'}."
            )
    return tensor.astype("int64").reshape((count,))


def _padded(targets: Tensor, lengths: Tensor, given: Any, count: int) -> Tensor:
    """Return targets as [N, S]."""
    if not targets.dtype.is_integer:
        raise DTypeError(f"ctc_loss: targets have dtype {targets.dtype.name}. They must be integers, class numbers.")
    if targets.ndim == 2 and targets.shape[0] == count:
        labels = targets
    elif targets.ndim == 1 and count == 1:
        labels = targets.reshape((1, targets.shape[0]))
    elif targets.ndim == 1:
        # One after the other: each sequence starts where the lengths before it end, and the longest sets the width.
        known = np.asarray(given, np.int64).reshape(-1)
        starts = np.cumsum(known) - known
        if known.sum() > targets.shape[0]:
            raise ShapeError(
                f"ctc_loss: target_lengths add up to {known.sum()}, and there are {targets.shape[0]} targets."
            )
        width = int(known.max(initial=0))
        if targets.shape[0] == 0:
            return creation.zeros((count, width), dtype="int64")
        index = np.minimum(starts[:, None] + np.arange(width), targets.shape[0] - 1)
        return targets[asarray(index)]
    else:
        raise ShapeError(
            f"ctc_loss: targets {targets.node.type!r} do not fit {count} sequences. They must be [{count}, S], or all "
            "in one axis."
        )
    if not isinstance(given, Value) and count and int(np.max(given)) > labels.shape[1]:
        raise ShapeError(f"ctc_loss: target_lengths go up to {np.max(given)}, and targets are {labels.node.type!r}.")
    return labels
