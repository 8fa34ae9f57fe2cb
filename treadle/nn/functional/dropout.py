"""Dropout: random zeros while training, of elements or of whole channels.

`inplace` is PyTorch's and asks for nothing here: a tensor never changes, and the compiler reuses memory by itself.
"""

from __future__ import annotations

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor, random
from treadle.tensor.elementwise import where
from treadle.tensor.promotion import Operand, as_tensor
from treadle.tensor.random import Generator

SELU_LOW = -1.7580993408473766  # what selu tends to at -inf: minus its scale times its alpha


def dropout(
    input: Operand,
    p: float = 0.5,
    training: bool = True,  # PyTorch's signature
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Return the input with elements set to 0 with probability `p` and the others scaled by 1 / (1 - p)."""
    x = _checked("dropout", input, p)
    return _dropped(x, x.shape, p, training, generator)


def dropout1d(
    input: Operand, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Return [N, C, L] or [C, L] with whole channels set to 0 with probability `p`, the others scaled by 1 / (1 - p).

    Source: Tompson et al. 2015, arXiv:1411.4280.
    """
    return _channels("dropout1d", input, p, training, generator, batched=(3,), alone=(2,))


def dropout2d(
    input: Operand, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Return [N, C, H, W] with whole channels set to 0 with probability `p`, the others scaled; see `dropout1d`.

    Three axes are taken for [N, C, L], as in PyTorch.
    """
    return _channels("dropout2d", input, p, training, generator, batched=(3, 4), alone=())


def dropout3d(
    input: Operand, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Return [N, C, D, H, W] or [C, D, H, W] with whole channels set to 0 with probability `p`; see `dropout1d`."""
    return _channels("dropout3d", input, p, training, generator, batched=(5,), alone=(4,))


def alpha_dropout(
    input: Operand, p: float = 0.5, training: bool = False, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Return the input with elements set to where selu saturates, then scaled and shifted to the old mean and variance.

    Source: Klambauer et al. 2017, arXiv:1706.02515. As in PyTorch, `training` is False unless given.
    """
    x = _checked("alpha_dropout", input, p)
    return _saturated(x, x.shape, p, training, generator)


def feature_alpha_dropout(
    input: Operand, p: float = 0.5, training: bool = False, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Return `alpha_dropout` of whole channels of [N, C, ...]."""
    x = _checked("feature_alpha_dropout", input, p)
    return _saturated(x, _mask_shape("feature_alpha_dropout", x), p, training, generator)


def _checked(what: str, input: Operand, p: float) -> Tensor:
    if not 0 <= p <= 1:
        raise ConfigError(f"{what}: p is {p}. It is a probability: 0 to 1.")
    return as_tensor(what, input)


def _mask_shape(what: str, x: Tensor) -> tuple[int, ...]:
    if x.ndim < 2:
        raise ShapeError(f"{what}: input {x.node.type!r} must be [N, C, ...]. Reshape it.")
    return (*x.shape[:2], *[1] * (x.ndim - 2))


def _channels(
    what: str,
    input: Operand,
    p: float,
    training: bool,
    generator: Generator | None,
    *,
    batched: tuple[int, ...],
    alone: tuple[int, ...],
) -> Tensor:
    """Return the input with whole channels dropped; with `alone` axes they come first, with `batched` behind N."""
    x = _checked(what, input, p)
    if x.ndim not in (*batched, *alone):
        raise ShapeError(
            f"{what}: input {x.node.type!r} has {x.ndim} axes. Allowed: "
            f"{' or '.join(map(str, sorted((*alone, *batched))))}."
        )
    shape = (x.shape[0], *[1] * (x.ndim - 1)) if x.ndim in alone else _mask_shape(what, x)
    return _dropped(x, shape, p, training, generator)


def _dropped(x: Tensor, shape: tuple[int, ...], p: float, training: bool, generator: Generator | None) -> Tensor:
    """Return x with zeros by a mask of this shape."""
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    keep = random.uniform(shape, generator=generator) >= p
    return where(keep, x * (1 / (1 - p)), 0.0)


def _saturated(x: Tensor, shape: tuple[int, ...], p: float, training: bool, generator: Generator | None) -> Tensor:
    """Return x with saturated values by a mask of this shape, at the mean and variance of standard normal numbers."""
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    scale = ((1 - p) * (1 + p * SELU_LOW**2)) ** -0.5
    shift = -SELU_LOW * scale * p
    keep = random.uniform(shape, generator=generator) >= p
    return where(keep, x * scale + shift, SELU_LOW * scale + shift)
