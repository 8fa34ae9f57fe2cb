"""The functions behind the layers, with PyTorch's names and argument order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from treadle.core import ConfigError, DTypeError, ShapeError, as_dtype, float32
from treadle.ir import Op, results
from treadle.tensor import Tensor, creation, made, node_of, random, reductions
from treadle.tensor import elementwise as ew
from treadle.tensor.elementwise import where
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


def embedding(input: Operand, weight: Operand) -> Tensor:
    """Return the rows of `weight` numbered by `input`, along a new last axis; a number out of range is an error."""
    x, w = as_tensor("embedding", input), as_tensor("embedding", weight)
    if w.ndim != 2:
        raise ShapeError(
            f"embedding: weight {w.node.type!r} is not a table. It must be [num_embeddings, embedding_dim]."
        )
    if not x.dtype.is_integer:
        raise DTypeError(f"embedding: numbers have dtype {x.dtype.name}. They must be integers; convert with astype().")
    return made(Op.registry["take"](0)(node_of(w), node_of(x)), x, w)


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


def softplus(input: Operand) -> Tensor:
    """Return log(1 + exp(x)), without overflow."""
    x = as_tensor("softplus", input)
    return where(x > 0, x, 0.0) + ew.log1p(ew.exp(-abs(x)))


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
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return -log softmax(input)[target], averaged over the targets that are not ignored.

    A target outside 0..C-1 that is not `ignore_index` is an error that names it.

    Args:
        input: logits [N, C] or [N, C, d1, ...], or [C] for one example.
        target: class numbers [N], [N, d1, ...] or a scalar.
        ignore_index: targets of this value count for nothing.
        reduction: "mean", "sum", or "none" for one loss per target.
        label_smoothing: share of the target spread evenly over all classes, 0 to 1.
    """
    what = "cross_entropy"
    _check_reduction(what, reduction)
    if not 0 <= label_smoothing <= 1:
        raise ConfigError(f"{what}: label_smoothing is {label_smoothing}. Allowed: 0 to 1.")
    logits, classes = as_tensor(what, input), as_tensor(what, target)
    shape = classes.shape
    axis = min(1, logits.ndim - 1)
    if logits.ndim == 0 or logits.shape[:axis] + logits.shape[axis + 1 :] != shape:
        raise ShapeError(
            f"{what}: input {logits.node.type!r} and target {classes.node.type!r} do not fit. They must be [N, C] "
            "and [N], or "
            "[N, C, d1, ...] and [N, d1, ...]; reshape others first."
        )
    if not classes.dtype.is_integer:
        raise DTypeError(f"{what}: targets have dtype {classes.dtype.name}. They must be integers, class numbers.")
    if logits.ndim > 2:
        logits = logits.permute(0, *range(2, logits.ndim), 1)
    size = logits.shape[-1]
    rows, targets = logits.reshape((math.prod(shape), size)), classes.reshape((math.prod(shape),))
    # An unsigned target cannot be the usual -100, nor compared with it.
    kept = None if classes.dtype.kind == "uint" and ignore_index < 0 else ew.not_equal(targets, ignore_index)
    if kept is not None:
        targets = where(kept, targets, 0)
    losses = made(Op.registry[what]()(node_of(rows), node_of(targets)), rows, targets)
    if label_smoothing:
        even = -reductions.log_softmax(rows, axis=-1).mean(axis=-1)
        losses = losses * (1 - label_smoothing) + even * label_smoothing
    if kept is not None:
        losses = where(kept, losses, 0.0)
    if reduction == "none":
        return losses.reshape(shape)
    if reduction == "sum" or kept is None:
        return losses.sum() if reduction == "sum" else losses.mean()
    return losses.sum() / kept.astype(losses.dtype if losses.dtype.bits > 16 else float32).sum().astype(losses.dtype)


def nll_loss(input: Operand, target: Operand, *, reduction: str = "mean") -> Tensor:
    """Return -input[target] for log probabilities [N, C] and class numbers [N]."""
    _check_reduction("nll_loss", reduction)
    x, classes = as_tensor("nll_loss", input), as_tensor("nll_loss", target)
    if x.ndim != 2 or classes.shape != x.shape[:1]:
        raise ShapeError(
            f"nll_loss: input {x.node.type!r} and target {classes.node.type!r} do not fit. They must be [N, C] and [N]."
        )
    index = classes.reshape((classes.shape[0], 1))
    chosen = made(Op.registry["take_along_axis"](1)(node_of(x), node_of(index)), x, index)
    return _reduced(-chosen.reshape(classes.shape), reduction)


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


def one_hot(tensor: Operand, num_classes: int, *, dtype: Any = "int64") -> Tensor:
    """Return 1 at the position of each number along a new last axis, 0 elsewhere."""
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
