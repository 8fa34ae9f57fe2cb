"""The functions behind the layers, with PyTorch's names and argument order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from treadle.core import ConfigError, DTypeError, IndexRangeError, ShapeError, as_dtype, float32
from treadle.ir import Op, results
from treadle.tensor import Tensor, creation, made, node_of, random, reductions
from treadle.tensor import elementwise as ew
from treadle.tensor.elementwise import where
from treadle.tensor.indexing import take
from treadle.tensor.promotion import Operand, as_tensor, meet
from treadle.tensor.random import Generator

REDUCTIONS = ("none", "mean", "sum")
GELU_APPROXIMATIONS = ("none", "tanh")


# --- layers


def linear(input: Operand, weight: Operand, bias: Operand | None = None) -> Tensor:
    """Return input W^T + bias for W [out_features, in_features]; the transposed W is not copied."""
    x, w = as_tensor("linear", input), as_tensor("linear", weight)
    if w.ndim != 2 or x.ndim < 1 or x.shape[-1] != w.shape[1]:
        raise ShapeError(
            f"linear: input {x.node.type!r} does not fit weight {w.node.type!r}; the input's last axis must have "
            "the weight's "
            f"second size. Check in_features."
        )
    y = x @ w.mT
    return y if bias is None else y + bias


def embedding(input: Operand, weight: Operand, padding_idx: int | None = None) -> Tensor:
    """Return the rows of `weight` numbered by `input`, along a new last axis; a number out of range is an error.

    The row `padding_idx` gets no gradient.
    """
    x, w = as_tensor("embedding", input), as_tensor("embedding", weight)
    if w.ndim != 2:
        raise ShapeError(
            f"embedding: weight {w.node.type!r} is not a table. It must be [num_embeddings, embedding_dim]."
        )
    if not x.dtype.is_integer:
        raise DTypeError(f"embedding: numbers have dtype {x.dtype.name}. They must be integers; convert with astype().")
    rows = made(Op.registry["take"](0)(node_of(w), node_of(x)), x, w)
    if padding_idx is None:
        return rows
    if not -w.shape[0] <= padding_idx < w.shape[0]:
        raise IndexRangeError(
            f"embedding: padding_idx {padding_idx} is out of range for {w.shape[0]} rows. Allowed: "
            f"{-w.shape[0]} to {w.shape[0] - 1}."
        )
    padding = padding_idx % w.shape[0]
    return where(ew.equal(x, padding).reshape((*x.shape, 1)), rows.detach(), rows)


def layer_norm(
    input: Operand,
    normalized_shape: int | Sequence[int],
    weight: Operand | None = None,
    bias: Operand | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Return the input with its last axes, of `normalized_shape`, at mean 0 and variance 1, then scaled and shifted."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    x = as_tensor("layer_norm", input)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ShapeError(
            f"layer_norm: normalized_shape {list(shape)} is not the end of the input's shape {list(x.shape)}. "
            "Give the sizes of its last axes."
        )
    op = Op.registry["layer_norm"](len(shape), float(eps))
    if weight is None and bias is not None:
        return made(op(node_of(x)), x) + bias
    nodes, tensors, _ = meet("layer_norm", *[t for t in (x, weight, bias) if t is not None])
    return made(op(*nodes), *tensors)


def dropout(
    input: Operand,
    p: float = 0.5,
    training: bool = True,  # PyTorch's signature
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Return the input with elements set to 0 with probability `p` and the others scaled by 1 / (1 - p)."""
    if not 0 <= p <= 1:
        raise ConfigError(f"dropout: p is {p}. It is a probability: 0 to 1.")
    x = as_tensor("dropout", input)
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    keep = random.uniform(x.shape, generator=generator) >= p
    return where(keep, x * (1 / (1 - p)), 0.0)


def scaled_dot_product_attention(
    query: Operand,
    key: Operand,
    value: Operand,
    attn_mask: Operand | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,  # PyTorch's signature
    scale: float | None = None,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Return softmax(scale * query key^T) value over the last two axes, [..., T, D].

    Without a mask and dropout it is one kernel that never holds the T x T scores.

    Args:
        query: [..., T, D].
        key: [..., S, D].
        value: [..., S, E].
        attn_mask: broadcasts to [..., T, S]; of bool: True where to look; of float: added to the scores.
        dropout_p: probability of dropping a weight; the caller passes 0 outside training.
        is_causal: row t sees columns 0..t; excludes a mask.
        scale: of the scores; 1 / sqrt(D) when None.
        generator: of dropout.
    """
    what = "scaled_dot_product_attention"
    nodes, (q, k, v), _ = meet(what, *[as_tensor(what, x) for x in (query, key, value)])
    if min(t.ndim for t in (q, k, v)) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(
            f"{what}: query {q.node.type!r}, key {k.node.type!r} and value {v.node.type!r} do not fit. They must be "
            "[..., T, D], [..., S, D] and [..., S, E]."
        )
    if is_causal and attn_mask is not None:
        raise ConfigError(f"{what}: both is_causal and attn_mask are given. Put the causal part into the mask.")
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    plain = attn_mask is None and dropout_p == 0 and k.shape == v.shape and q.shape[:-2] == k.shape[:-2]
    if plain and 2 <= q.ndim <= 4:
        four = [made(node, t).reshape((1,) * (4 - t.ndim) + t.shape) for node, t in zip(nodes, (q, k, v), strict=True)]
        op = Op.registry["attention"](bool(is_causal), float(factor))
        out_BTHD = made(results(op(*[node_of(t) for t in four]))[0], *four)
        return out_BTHD.permute(0, 2, 1, 3).reshape((*q.shape[:-1], v.shape[-1]))
    scores = (q @ k.mT) * factor
    if is_causal:
        attn_mask = causal_mask(q.shape[-2], k.shape[-2])
    if attn_mask is not None:
        mask = as_tensor(what, attn_mask)
        scores = where(mask, scores, -math.inf) if mask.dtype.kind == "bool" else scores + mask
    weights = dropout(softmax(scores, -1), dropout_p, generator=generator)
    return weights @ v


def causal_mask(rows: int, columns: int) -> Tensor:
    """Return the bool matrix that is true on and below the diagonal."""
    return creation.arange(rows).reshape((rows, 1)) >= creation.arange(columns)


# --- activations


def relu(input: Operand) -> Tensor:
    """Return max(x, 0), NaN for NaN; its gradient at 0 is 0."""
    x = as_tensor("relu", input)
    # `x > 0 ? x : 0` would turn NaN into 0.
    return where(x <= 0, 0, x)


def gelu(input: Operand, approximate: str = "none") -> Tensor:
    """Return x Phi(x), Phi the normal distribution function (Hendrycks & Gimpel 2016, arXiv:1606.08415).

    "tanh" takes x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) instead.
    """
    x = as_tensor("gelu", input)
    if approximate == "none":
        return x * 0.5 * (1.0 + ew.erf(x * math.sqrt(0.5)))
    if approximate == "tanh":
        return x * 0.5 * (1.0 + ew.tanh((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)))
    raise ConfigError(f"gelu: approximate is {approximate!r}. Allowed: {', '.join(GELU_APPROXIMATIONS)}.")


def silu(input: Operand) -> Tensor:
    """Return x sigmoid(x)."""
    x = as_tensor("silu", input)
    return x * ew.sigmoid(x)


def sigmoid(input: Operand) -> Tensor:
    """Return 1 / (1 + exp(-x))."""
    return ew.sigmoid(input)


def tanh(input: Operand) -> Tensor:
    """Return the hyperbolic tangent."""
    return ew.tanh(input)


def softplus(input: Operand, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """Return log(1 + exp(beta x)) / beta, without overflow; x itself where beta x is above the threshold."""
    x = as_tensor("softplus", input)
    scaled = x if beta == 1 else x * beta
    smooth = ew.logaddexp(scaled, 0.0)
    return where(scaled > threshold, x, smooth if beta == 1 else smooth / beta)


def softmax(input: Operand, dim: int = -1) -> Tensor:
    """Return exp(x) scaled to sum to 1 along an axis."""
    return reductions.softmax(input, axis=dim)


def log_softmax(input: Operand, dim: int = -1) -> Tensor:
    """Return the logarithm of softmax along an axis."""
    return reductions.log_softmax(input, axis=dim)


# --- losses


def cross_entropy(
    input: Operand,
    target: Operand,
    weight: Operand | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return -log softmax(input)[target], averaged over the targets that are not ignored.

    A target outside 0..C-1 that is not `ignore_index` is an error that names it.

    Args:
        input: logits [N, C] or [N, C, d1, ...], or [C] for one example.
        target: class numbers [N], [N, d1, ...] or a scalar; or, of the input's shape and of floats, the probability of
            every class.
        weight: [C], what an example of each class counts; the mean divides by the sum of what was counted.
        ignore_index: targets of this value count for nothing.
        reduction: "mean", "sum", or "none" for one loss per target.
        label_smoothing: share of the target spread evenly over all classes, 0 to 1.
    """
    what = "cross_entropy"
    _check_reduction(what, reduction)
    if not 0 <= label_smoothing <= 1:
        raise ConfigError(f"{what}: label_smoothing is {label_smoothing}. Allowed: 0 to 1.")
    logits, classes = as_tensor(what, input), as_tensor(what, target)
    if logits.ndim and classes.dtype.is_float and classes.shape == logits.shape:
        share = classes * (1 - label_smoothing) + label_smoothing / logits.shape[min(1, logits.ndim - 1)]
        return _soft_cross_entropy(logits, share if label_smoothing else classes, weight, reduction)
    rows, targets, shape = _classified(what, logits, classes)
    targets, kept = _kept(targets, ignore_index)
    factor = _factor(what, weight, rows.shape[-1])
    losses = made(Op.registry[what]()(node_of(rows), node_of(targets)), rows, targets)
    counts = None if factor is None else take(factor, targets, axis=0)
    if counts is not None:
        losses = losses * counts
    if label_smoothing:
        even = reductions.log_softmax(rows, axis=-1)
        even = -(even if factor is None else even * factor).mean(axis=-1)
        losses = losses * (1 - label_smoothing) + even * label_smoothing
    return _averaged(losses, counts, kept, reduction, shape)


def _soft_cross_entropy(logits: Tensor, share: Tensor, weight: Operand | None, reduction: str) -> Tensor:
    """Return the cross-entropy of logits and the probabilities of all classes, averaged over examples."""
    axis = min(1, logits.ndim - 1)
    products = reductions.log_softmax(logits, axis=axis) * share
    factor = _factor("cross_entropy", weight, logits.shape[axis])
    if factor is not None:
        products = products * factor.reshape((-1,) + (1,) * (logits.ndim - 1 - axis))
    return _reduced(-products.sum(axis=axis), reduction)


def nll_loss(
    input: Operand,
    target: Operand,
    weight: Operand | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Return -input[target] for log probabilities; shapes and arguments are those of `cross_entropy`."""
    what = "nll_loss"
    _check_reduction(what, reduction)
    rows, targets, shape = _classified(what, as_tensor(what, input), as_tensor(what, target))
    targets, kept = _kept(targets, ignore_index)
    factor = _factor(what, weight, rows.shape[-1])
    index = targets.reshape((targets.shape[0], 1))
    chosen = made(Op.registry["take_along_axis"](1)(node_of(rows), node_of(index)), rows, index)
    losses = -chosen.reshape(targets.shape)
    counts = None if factor is None else take(factor, targets, axis=0)
    return _averaged(losses if counts is None else losses * counts, counts, kept, reduction, shape)


def _classified(what: str, scores: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Return the scores as rows [n, C], the class numbers as [n], and the shape they had."""
    shape = classes.shape
    axis = min(1, scores.ndim - 1)
    if scores.ndim == 0 or scores.shape[:axis] + scores.shape[axis + 1 :] != shape:
        raise ShapeError(
            f"{what}: input {scores.node.type!r} and target {classes.node.type!r} do not fit. They must be [N, C] "
            "and [N], or [N, C, d1, ...] and [N, d1, ...]; reshape others first."
        )
    if not classes.dtype.is_integer:
        raise DTypeError(f"{what}: targets have dtype {classes.dtype.name}. They must be integers, class numbers.")
    if scores.ndim > 2:
        scores = scores.permute(0, *range(2, scores.ndim), 1)
    count = math.prod(shape)
    return scores.reshape((count, scores.shape[-1])), classes.reshape((count,)), shape


def _kept(targets: Tensor, ignore_index: int) -> tuple[Tensor, Tensor | None]:
    """Return targets with 0 for the ignored ones, and which are not ignored (None: all)."""
    # An unsigned target cannot be the usual -100, nor compared with it.
    if targets.dtype.kind == "uint" and ignore_index < 0:
        return targets, None
    kept = ew.not_equal(targets, ignore_index)
    return where(kept, targets, 0), kept


def _factor(what: str, weight: Operand | None, num_classes: int) -> Tensor | None:
    if weight is None:
        return None
    factor = as_tensor(what, weight)
    if factor.shape != (num_classes,):
        raise ShapeError(f"{what}: weight {factor.node.type!r} does not fit {num_classes} classes. Give one for each.")
    return factor


def _averaged(
    losses: Tensor, counts: Tensor | None, kept: Tensor | None, reduction: str, shape: tuple[int, ...]
) -> Tensor:
    """Return losses without the ignored ones; their mean is over what each counts."""
    if kept is not None:
        losses = where(kept, losses, 0.0)
    if reduction == "none":
        return losses.reshape(shape)
    if reduction == "sum" or (kept is None and counts is None):
        return losses.sum() if reduction == "sum" else losses.mean()
    wide = losses.dtype if losses.dtype.bits > 16 else float32
    if counts is None:
        assert kept is not None
        total = kept.astype(wide).sum()
    else:
        total = (counts if kept is None else where(kept, counts, 0.0)).astype(wide).sum()
    return losses.sum() / total.astype(losses.dtype)


def mse_loss(input: Operand, target: Operand, *, reduction: str = "mean") -> Tensor:
    """Return (input - target)^2, averaged over all elements."""
    _check_reduction("mse_loss", reduction)
    x, y = as_tensor("mse_loss", input), as_tensor("mse_loss", target)
    if x.shape != y.shape:
        raise ShapeError(
            f"mse_loss: input {x.node.type!r} and target {y.node.type!r} differ in shape. They must be equal; "
            "reshape one."
        )
    difference = x - y
    return _reduced(difference * difference, reduction)


def one_hot(tensor: Operand, num_classes: int = -1, *, dtype: Any = "int64") -> Tensor:
    """Return 1 at the position of each number along a new last axis, 0 elsewhere.

    -1 classes means one more than the largest number, which must then be known.
    """
    if num_classes == -1:
        numbers = as_tensor("one_hot", tensor)
        if numbers.size == 0:
            raise ShapeError(f"one_hot: {numbers.node.type!r} has no elements to count classes by. Give num_classes.")
        num_classes = int(numbers.max()) + 1
    return creation.one_hot(tensor, num_classes, dtype=as_dtype(dtype))


def _check_reduction(what: str, reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise ConfigError(f"{what}: reduction is {reduction!r}. Allowed: {', '.join(REDUCTIONS)}.")


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    match reduction:
        case "mean":
            return losses.mean()
        case "sum":
            return losses.sum()
        case _:
            return losses
