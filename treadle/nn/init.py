"""Initial values of parameters, in place, named and defined as in `torch.nn.init`."""

from __future__ import annotations

import math

import numpy as np

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Cell, Tensor, random
from treadle.tensor.creation import asarray, eye, full
from treadle.tensor.elementwise import clip, erf, where
from treadle.tensor.factorizations import qr
from treadle.tensor.linalg_extension import diagonal
from treadle.tensor.random import Generator
from treadle.tensor.sorting import argsort

GAINS = {
    "linear": 1.0,
    **{f"conv{kind}{n}d": 1.0 for kind in ("", "_transpose") for n in (1, 2, 3)},
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "selu": 3 / 4,
    "leaky_relu": math.sqrt(2 / (1 + 0.01**2)),
}
MODES = ("fan_in", "fan_out")


def constant_(tensor: Cell, val: float) -> Cell:
    """Set every element to `val`."""
    tensor.value = full(tensor.shape, val, dtype=tensor.dtype)
    return tensor


def zeros_(tensor: Cell) -> Cell:
    """Set every element to 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Cell) -> Cell:
    """Set every element to 1."""
    return constant_(tensor, 1.0)


def uniform_(tensor: Cell, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Cell:
    """Draw elements evenly from [a, b)."""
    tensor.value = (random.uniform(tensor.shape, generator=generator) * (b - a) + a).astype(tensor.dtype)
    return tensor


def normal_(tensor: Cell, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Cell:
    """Draw elements from the normal distribution N(mean, std^2)."""
    _check_std("normal_", std)
    tensor.value = (random.normal(tensor.shape, generator=generator) * std + mean).astype(tensor.dtype)
    return tensor


def trunc_normal_(
    tensor: Cell,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Cell:
    """Draw elements from N(mean, std^2) limited to [a, b], as one draws again until the value lies inside."""
    _check_std("trunc_normal_", std)
    if not a < b:
        raise ConfigError(f"trunc_normal_: the range from {a} to {b} is empty. Give a < b.")
    low, high = (math.erf((limit - mean) / std / math.sqrt(2)) for limit in (a, b))
    # The inverse of the distribution function, drawn evenly between its values at the limits.
    even = random.uniform(tensor.shape, generator=generator) * (high - low) + low
    drawn = _erfinv(clip(even, -1 + 1e-7, 1 - 1e-7)) * (std * math.sqrt(2)) + mean
    tensor.value = clip(drawn, a, b).astype(tensor.dtype)
    return tensor


def xavier_uniform_(tensor: Cell, gain: float = 1.0, generator: Generator | None = None) -> Cell:
    """Draw from U(-a, a), a = gain sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    bound = gain * math.sqrt(6 / sum(fans("xavier_uniform_", tensor)))
    return uniform_(tensor, -bound, bound, generator=generator)


def xavier_normal_(tensor: Cell, gain: float = 1.0, generator: Generator | None = None) -> Cell:
    """Draw from N(0, gain^2 2 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(fans("xavier_normal_", tensor))), generator=generator)


def kaiming_uniform_(
    tensor: Cell,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Cell:
    """Draw from U(-b, b), b = gain sqrt(3 / fan) (He et al. 2015, arXiv:1502.01852); `a` is leaky_relu's slope."""
    bound = math.sqrt(3) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator=generator)


def kaiming_normal_(
    tensor: Cell,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Cell:
    """Draw from N(0, gain^2 / fan) (He et al. 2015, arXiv:1502.01852); `a` is leaky_relu's slope."""
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity), generator=generator)


def eye_(tensor: Cell) -> Cell:
    """Set a matrix to the identity, as far as it goes."""
    if tensor.ndim != 2:
        raise ShapeError(f"eye_: a tensor of shape {list(tensor.shape)} is not a matrix. It must have 2 axes.")
    tensor.value = eye(tensor.shape[0], tensor.shape[1], dtype=tensor.dtype)
    return tensor


def dirac_(tensor: Cell, groups: int = 1) -> Cell:
    """Set the weight of a convolution [out, in, ...] so that it passes its input channels on, as many as there are.

    With groups, those of each group go to its outputs.
    """
    if tensor.ndim not in (3, 4, 5):
        raise ShapeError(
            f"dirac_: a weight of shape {list(tensor.shape)} is no convolution's. It must have 3 to 5 axes."
        )
    if groups < 1 or tensor.shape[0] % groups:
        raise ConfigError(f"dirac_: groups is {groups}. It must divide the {tensor.shape[0]} output channels.")
    each = tensor.shape[0] // groups
    weight = np.zeros(tensor.shape, np.float32)
    centre = tuple(size // 2 for size in tensor.shape[2:])
    for channel in range(min(each, tensor.shape[1])):
        weight[(slice(channel, None, each), channel, *centre)] = 1
    tensor.value = asarray(weight).astype(tensor.dtype)
    return tensor


def orthogonal_(tensor: Cell, gain: float = 1.0, generator: Generator | None = None) -> Cell:
    """Draw a matrix with orthonormal rows, or columns if there are fewer, times `gain` (Saxe et al. 2014, 1312.6120).

    Even over all such matrices: Q of a normal matrix, with the signs that make R's diagonal positive (Mezzadri 2007).
    More than two axes count as a matrix [size of the first, all others].
    """
    if tensor.ndim < 2:
        raise ShapeError(
            f"orthogonal_: a tensor of shape {list(tensor.shape)} is no matrix. It must have 2 axes or more."
        )
    size = math.prod(tensor.shape)
    if not size:
        return tensor
    rows, columns = tensor.shape[0], size // tensor.shape[0]
    q, r = qr(random.normal((max(rows, columns), min(rows, columns)), generator=generator))
    q = q * where(diagonal(r) < 0, -1.0, 1.0)
    tensor.value = ((q if rows >= columns else q.mT).reshape(tensor.shape) * gain).astype(tensor.dtype)
    return tensor


def sparse_(tensor: Cell, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Cell:
    """Draw a matrix from N(0, std^2) with the share `sparsity` of each column set to 0 (Martens 2010)."""
    if tensor.ndim != 2:
        raise ShapeError(f"sparse_: a tensor of shape {list(tensor.shape)} is not a matrix. It must have 2 axes.")
    if not 0 <= sparsity <= 1:
        raise ConfigError(f"sparse_: sparsity is {sparsity}. It is a share: 0 to 1.")
    _check_std("sparse_", std)
    values = random.normal(tensor.shape, generator=generator) * std
    # The rank of random numbers in a column is a random order of its rows.
    rank = argsort(argsort(random.uniform(tensor.shape, generator=generator), axis=0), axis=0)
    tensor.value = where(rank < math.ceil(sparsity * tensor.shape[0]), 0.0, values).astype(tensor.dtype)
    return tensor


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor that keeps the variance through an activation; `param` is leaky_relu's slope."""
    if nonlinearity not in GAINS:
        raise ConfigError(f"init: there is no gain for {nonlinearity!r}. Allowed: {', '.join(GAINS)}.")
    if nonlinearity == "leaky_relu" and param is not None:
        return math.sqrt(2 / (1 + param**2))
    return GAINS[nonlinearity]


def fans(what: str, tensor: Cell) -> tuple[int, int]:
    """Return the inputs and outputs of one unit of a weight [out, in, ...]."""
    if tensor.ndim < 2:
        raise ShapeError(f"{what}: a weight of shape {list(tensor.shape)} has no fan. It must have at least 2 axes.")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _kaiming_std(what: str, tensor: Cell, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in MODES:
        raise ConfigError(f"{what}: mode is {mode!r}. Allowed: {', '.join(MODES)}.")
    return calculate_gain(nonlinearity, a) / math.sqrt(fans(what, tensor)[MODES.index(mode)])


def _check_std(what: str, std: float) -> None:
    if not std >= 0:
        raise ConfigError(f"{what}: std is {std}. It must be at least 0.")


def _erfinv(y: Tensor) -> Tensor:
    """Return x with erf(x) = y: Winitzki's approximation (2008), then Newton's method on erf."""
    # Two steps take the approximation's error of 2e-3 below the rounding of float32.
    log = (1 - y * y).log()
    half = log * 0.5 + 2 / (math.pi * 0.147)
    root = ((half * half - log / 0.147).sqrt() - half).sqrt()
    x = root * y.sign()
    for _ in range(2):
        x = x - (erf(x) - y) * (math.sqrt(math.pi) / 2) * (x * x).exp()
    return x
