"""K1 for treadle: each operator as a compiled function of tensors that are there."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import treadle as td
from treadle.nn import functional as F


def conv2d(x: td.Tensor, weight: td.Tensor) -> td.Tensor:
    """Return the convolution of channels-last images, channels-last: the layout that is fastest inside."""
    y = F.conv2d(td.permute_dims(x, (0, 3, 1, 2)), weight, padding=1)
    return td.permute_dims(y, (0, 2, 3, 1))


def layer_norm(x: td.Tensor, weight: td.Tensor, bias: td.Tensor) -> td.Tensor:
    return F.layer_norm(x, x.shape[-1:], weight, bias)


def chain(x: td.Tensor) -> td.Tensor:
    y = F.relu(x * 1.5 + 0.5)
    y = td.sqrt(td.abs(y * x - 0.25) + 1)
    return td.exp(-y)


OPERATORS: dict[str, Callable[..., td.Tensor]] = {
    "matmul": td.matmul,
    "softmax": partial(F.softmax, dim=-1),
    "layer_norm": layer_norm,
    "gelu": F.gelu,
    "conv2d": conv2d,
    "chain": chain,
    "sum": td.sum,
    "attention": partial(F.scaled_dot_product_attention, is_causal=True),
}


def laid_out(name: str, batch: Any) -> list[np.ndarray]:
    """Return the operands in the layout that the operator takes."""
    if name != "conv2d":
        return list(batch)
    x, weight = batch
    return [np.ascontiguousarray(np.moveaxis(x, 1, -1)), weight]


def call(name: str, values: Any, batch: Any) -> Callable[[], td.Tensor]:
    operands = [td.asarray(operand) for operand in laid_out(name, batch)]
    run = td.compile(OPERATORS[name])
    return lambda: run(*operands)


STEPS = {f"K1.{name}": partial(call, name) for name in OPERATORS}
