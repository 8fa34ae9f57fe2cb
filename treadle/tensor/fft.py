"""`td.fft`: as much of the array API's extension as there is without complex numbers.

Sample frequencies and shifts are functions of real numbers. Transforms are not: their input or their result is complex,
and treadle has no complex dtype. They exist to say so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from treadle.core import ConfigError, DTypeError, as_dtype, float32, normalize_axes

from . import elementwise as ew
from . import manipulation as shapes
from .creation import arange
from .keywords import either_word
from .promotion import Operand, as_tensor

if TYPE_CHECKING:
    from .tensor import Tensor


def fftfreq(n: int, /, *, d: float = 1.0, dtype: object | None = None, device: object | None = None) -> Tensor:
    """Return the frequencies 0, 1, ..., (n - 1) // 2, -(n // 2), ..., -1 of a transform of n samples, over n d.

    Args:
        n: how many samples.
        d: the distance between two samples.
        dtype: of the result, a float; float32 when None.
        device: "cpu" or None.
    """
    _check_count("fftfreq", n)
    places = arange(n, dtype="int64", device=device)
    turned = ew.where(ew.less(places, (n + 1) // 2), places, ew.subtract(places, n))
    return _frequencies("fftfreq", turned, n, d, dtype)


def rfftfreq(n: int, /, *, d: float = 1.0, dtype: object | None = None, device: object | None = None) -> Tensor:
    """Return the frequencies 0, 1, ..., n // 2 of a transform of n real samples, over n d; see `fftfreq`."""
    _check_count("rfftfreq", n)
    return _frequencies("rfftfreq", arange(n // 2 + 1, dtype="int64", device=device), n, d, dtype)


def _check_count(what: str, n: int) -> None:
    if n < 1:
        raise ConfigError(f"{what}: {n} samples. Give at least 1.")


def _frequencies(what: str, places: Tensor, n: int, d: float, dtype: object | None) -> Tensor:
    wanted = float32 if dtype is None else as_dtype(dtype)
    if not wanted.is_float:
        raise DTypeError(f"{what}: dtype {wanted.name} is not floating point. Allowed: floats.")
    if d == 0:
        raise ConfigError(f"{what}: the distance between samples is 0. Give another.")
    wide = ew.multiply(places.astype("float64"), 1.0 / (n * d))
    return wide.astype(wanted)


@either_word
def fftshift(x: Operand, /, *, axes: int | Sequence[int] | None = None) -> Tensor:
    """Return x with its halves along axes (all when None) exchanged, so that frequency 0 stands in the middle."""
    return _shifted("fftshift", x, axes, lambda n: n // 2)


@either_word
def ifftshift(x: Operand, /, *, axes: int | Sequence[int] | None = None) -> Tensor:
    """Return x with `fftshift` undone."""
    return _shifted("ifftshift", x, axes, lambda n: -(n // 2))


def _shifted(what: str, x: Operand, axes: int | Sequence[int] | None, shift: Callable[[int], int]) -> Tensor:
    tensor = as_tensor(what, x)
    which = normalize_axes(what, axes, tensor.ndim)
    return shapes.roll(tensor, [shift(tensor.shape[a]) for a in which], axis=which) if which else tensor


def _no_transform(name: str) -> Callable[..., Any]:
    def transform(x: Operand, /, **_: object) -> NoReturn:
        raise DTypeError(
            f"{name}: Fourier transforms have complex numbers as input or result, and there is no complex dtype. Use "
            "numpy.fft on x.numpy(), or write the transform as products with td.cos and td.sin."
        )

    transform.__name__ = transform.__qualname__ = name
    transform.__doc__ = f"Raise DTypeError: `{name}` needs complex numbers, which are out of scope."
    return transform


fft = _no_transform("fft")
ifft = _no_transform("ifft")
fftn = _no_transform("fftn")
ifftn = _no_transform("ifftn")
rfft = _no_transform("rfft")
irfft = _no_transform("irfft")
rfftn = _no_transform("rfftn")
irfftn = _no_transform("irfftn")
hfft = _no_transform("hfft")
ihfft = _no_transform("ihfft")

__all__ = [
    "fft",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "ifft",
    "ifftn",
    "ifftshift",
    "ihfft",
    "irfft",
    "irfftn",
    "rfft",
    "rfftfreq",
    "rfftn",
]
