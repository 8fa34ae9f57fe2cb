"""Losses that are negative log likelihoods of a distribution, or the divergence of two."""

from __future__ import annotations

import math

import numpy as np

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor
from treadle.tensor import elementwise as ew
from treadle.tensor.creation import full
from treadle.tensor.elementwise import where
from treadle.tensor.promotion import Operand, as_tensor

from .reduce import check_reduction, chosen, paired, reduced


def kl_div(
    input: Operand,
    target: Operand,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Return t (log t - input), whose sum is the divergence of exp(input) from t (Kullback & Leibler 1951).

    Args:
        input: log probabilities.
        target: probabilities t; 0 log 0 is 0.
        size_average: older than `reduction`: whether to average; see `reduce`.
        reduce: older than `reduction`: whether to reduce at all. Either of the two counts instead of it when given.
        reduction: "batchmean", the sum over the size of axis 0, is the divergence; "mean" divides by the number of
            elements; "sum", "none".
        log_target: the target is given as log t.
    """
    batch = reduction == "batchmean" and size_average is None and reduce is None
    if not batch and reduction == "batchmean":
        reduction = "mean"
    name = "sum" if batch else chosen("kl_div", reduction, size_average, reduce)
    x, t = as_tensor("kl_div", input), as_tensor("kl_div", target)
    losses = ew.exp(t) * (t - x) if log_target else t * ew.log(where(ew.equal(t, 0.0), 1.0, t)) - t * x
    total = reduced(losses, name)
    return total / x.shape[0] if batch and x.ndim else total


def poisson_nll_loss(
    input: Operand,
    target: Operand,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return r - t log r, the negative log likelihood of counts t at the rate r, without log t!.

    Args:
        input: log r; or r itself, with log_input=False.
        target: counts.
        log_input: whether the input is the logarithm of the rate.
        full: add Stirling's approximation of log t!, t log t - t + log(2 pi t) / 2, where t > 1.
        size_average: older than `reduction`: whether to average; see `reduce`.
        eps: added to a rate before its logarithm is taken.
        reduce: older than `reduction`: whether to reduce at all. Either of the two counts instead of it when given.
        reduction: "mean", "sum" or "none".
    """
    name = chosen("poisson_nll_loss", reduction, size_average, reduce)
    x, t = as_tensor("poisson_nll_loss", input), as_tensor("poisson_nll_loss", target)
    losses = ew.exp(x) - t * x if log_input else x - t * ew.log(x + eps)
    if full:
        many = t > 1
        n = where(many, t, 1)
        losses = losses + where(many, n * ew.log(n) - n + ew.log(n * (2 * math.pi)) * 0.5, 0.0)
    return reduced(losses, name)


def gaussian_nll_loss(
    input: Operand,
    target: Operand,
    var: Operand,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """Return (log v + (input - target)^2 / v) / 2, the negative log likelihood of N(input, v) (Nix & Weigend 1994).

    Args:
        input: means [..., D].
        target: of the same shape, or one that broadcasts.
        var: variances v, not negative: of the input's shape, without its last axis, or with one axis of size 1 in its
            place; or one number.
        full: add log(2 pi) / 2.
        eps: the least v; below it the gradient is that at eps.
        reduction: "mean", "sum" or "none".
    """
    what = "gaussian_nll_loss"
    check_reduction(what, reduction)
    x, y = as_tensor(what, input), as_tensor(what, target)
    if x.shape != y.shape:
        x_wide, y = paired(what, x, y)
    else:
        x_wide = x
    v = _variance(what, var, x)
    # Only the value is limited: the gradient goes through, so that a variance that is too small can grow.
    v = v + (ew.maximum(v, eps) - v).detach()
    losses = (ew.log(v) + (x_wide - y) * (x_wide - y) / v) * 0.5
    return reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


def _variance(what: str, var: Operand, x: Tensor) -> Tensor:
    if isinstance(var, int | float):
        if var < 0:
            raise ConfigError(f"{what}: var is {var}. A variance must be at least 0.")
        return full(x.shape, float(var), dtype=x.dtype)
    v = as_tensor(what, var)
    if isinstance(var, np.ndarray) and np.any(var < 0):
        raise ConfigError(f"{what}: var has the element {var.min()}. Variances must be at least 0.")
    if v.shape == x.shape:
        return v
    if v.shape == x.shape[:-1]:
        return v.reshape((*v.shape, 1))
    others = [a for a, b in zip(v.shape, x.shape, strict=False) if a != b]
    if v.ndim == x.ndim and others == [1]:
        return v
    raise ShapeError(
        f"{what}: var {v.node.type!r} does not fit input {x.node.type!r}. It must have its shape, lack the last axis, "
        "or have size 1 along one axis."
    )
