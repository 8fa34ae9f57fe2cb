"""`td.special`: special functions, named as in `torch.special`. Integers and bools are taken as float32.

What a function does where it has no value, at infinity and at poles is PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from treadle.core import DTypeError, float32, promote
from treadle.ops import BesselI, Gammainc, Polygamma

from . import elementwise as ew
from .elementwise import erf, exp2, expm1, float_binary, float_unary, log1p, round, sigmoid
from .manipulation import broadcast_arrays
from .promotion import Operand, as_tensor, meet
from .reductions import log_softmax, logsumexp, softmax
from .value import made, node_of

if TYPE_CHECKING:
    from .tensor import Tensor


def _floats(what: str, *operands: Operand) -> list[Tensor]:
    """Return operands in their common float dtype."""
    nodes, tensors, dtype = meet(what, *operands)
    found = [made(node, *tensors) for node in nodes]
    return found if dtype.is_float else [t.astype("float32") for t in found]


# --- the gamma function -------------------------------------------------------------------------------------


def lgamma(x: Operand, /) -> Tensor:
    """Return the logarithm of the magnitude of the gamma function; infinite at 0, -1, -2, ..."""
    return float_unary("lgamma", x)


def digamma(x: Operand, /) -> Tensor:
    """Return the slope of `lgamma`: -inf at 0 (inf at -0.0), NaN at -1, -2, ..."""
    return float_unary("digamma", x)


def polygamma(n: int, x: Operand, /) -> Tensor:
    """Return the derivative number n (0 or more) of `digamma`."""
    if n < 0:
        raise DTypeError(f"polygamma: the order {n} is not possible. Give one of at least 0.")
    if n == 0:
        return digamma(x)
    (tensor,) = _floats("polygamma", as_tensor("polygamma", x))
    return made(Polygamma(n)(node_of(tensor)), tensor)


def multigammaln(x: Operand, p: int, /) -> Tensor:
    """Return the logarithm of the gamma function in p dimensions.

    It is p (p - 1) / 4 log(pi) + the sum of lgamma(x - k / 2) over k from 0 to p - 1.
    """
    if p < 1:
        raise DTypeError(f"multigammaln: {p} dimensions. Give at least 1.")
    (tensor,) = _floats("multigammaln", as_tensor("multigammaln", x))
    total = lgamma(tensor)
    for k in range(1, p):
        total = ew.add(total, lgamma(ew.subtract(tensor, k / 2)))
    return ew.add(total, p * (p - 1) / 4 * math.log(math.pi))


def _gammainc(what: str, a: Operand, x: Operand, *, upper: bool) -> Tensor:
    shape, place = broadcast_arrays(*_floats(what, a, x))
    return made(Gammainc(upper)(node_of(shape), node_of(place)), shape, place)


def gammainc(a: Operand, x: Operand, /) -> Tensor:
    """Return the integral of t**(a - 1) exp(-t) from 0 to x over that to infinity. No gradient flows to a."""
    return _gammainc("gammainc", a, x, upper=False)


def gammaincc(a: Operand, x: Operand, /) -> Tensor:
    """Return 1 - `gammainc`, exact where that is about 1. No gradient flows to a."""
    return _gammainc("gammaincc", a, x, upper=True)


def zeta(s: Operand, q: Operand, /) -> Tensor:
    """Return the Hurwitz zeta function, the sum of (k + q)**-s over k from 0 on. No gradient flows to s.

    Infinite at s = 1 and at q = 0, -1, -2, ...; NaN for s < 1 and elsewhere for q < 0.
    """
    return float_binary("zeta", s, q)


# --- Bessel functions ---------------------------------------------------------------------------------------


def _bessel(what: str, x: Operand, order: int, *, scaled: bool = False) -> Tensor:
    (tensor,) = _floats(what, as_tensor(what, x))
    return made(BesselI(order, scaled)(node_of(tensor)), tensor)


def i0(x: Operand, /) -> Tensor:
    """Return the modified Bessel function of the first kind of order 0."""
    return _bessel("i0", x, 0)


def i0e(x: Operand, /) -> Tensor:
    """Return exp(-abs(x)) times `i0`, without overflow."""
    return _bessel("i0e", x, 0, scaled=True)


def i1(x: Operand, /) -> Tensor:
    """Return the modified Bessel function of the first kind of order 1."""
    return _bessel("i1", x, 1)


def i1e(x: Operand, /) -> Tensor:
    """Return exp(-abs(x)) times `i1`, without overflow."""
    return _bessel("i1e", x, 1, scaled=True)


# --- the normal distribution --------------------------------------------------------------------------------


def erfc(x: Operand, /) -> Tensor:
    """Return 1 - erf(x), exact for large x."""
    return float_unary("erfc", x)


def erfcx(x: Operand, /) -> Tensor:
    """Return exp(x**2) erfc(x), without underflow for large x."""
    return float_unary("erfcx", x)


def erfinv(x: Operand, /) -> Tensor:
    """Return the number whose erf is x: infinite at 1 and -1, NaN outside."""
    return float_unary("erfinv", x)


def ndtr(x: Operand, /) -> Tensor:
    """Return the probability that a normal number is at most x."""
    (tensor,) = _floats("ndtr", as_tensor("ndtr", x))
    return ew.multiply(erfc(ew.multiply(tensor, -math.sqrt(0.5))), 0.5)


def log_ndtr(x: Operand, /) -> Tensor:
    """Return the logarithm of `ndtr`, without underflow for x far below 0."""
    return float_unary("log_ndtr", x)


def ndtri(x: Operand, /) -> Tensor:
    """Return the number that a normal one is at most with probability x: infinite at 0 and 1, NaN outside."""
    return float_unary("ndtri", x)


# --- logarithms and probabilities ---------------------------------------------------------------------------


def expit(x: Operand, /) -> Tensor:
    """Return 1 / (1 + exp(-x)): `sigmoid`."""
    return sigmoid(x)


def logit(x: Operand, /, eps: float | None = None) -> Tensor:
    """Return log(x / (1 - x)), the inverse of sigmoid; with `eps`, of x limited to eps .. 1 - eps."""
    (tensor,) = _floats("logit", as_tensor("logit", x))
    inside = tensor if eps is None else ew.clip(tensor, eps, 1 - eps)
    return ew.log(ew.divide(inside, ew.subtract(1, inside)))


def xlogy(x: Operand, y: Operand, /) -> Tensor:
    """Return x log(y): 0 where x is 0, unless y is NaN."""
    a, b = _floats("xlogy", x, y)
    return _times_log(a, b, ew.log)


def xlog1py(x: Operand, y: Operand, /) -> Tensor:
    """Return x log(1 + y): 0 where x is 0, unless y is NaN."""
    a, b = _floats("xlog1py", x, y)
    return _times_log(a, b, ew.log1p)


def _times_log(a: Tensor, b: Tensor, log: Callable[[Tensor], Tensor]) -> Tensor:
    none = ew.logical_and(ew.equal(a, 0), ew.logical_not(ew.isnan(b)))
    # The logarithm's operand is replaced as well: its slope may be infinite where it does not count.
    return ew.where(none, 0.0, ew.multiply(a, log(ew.where(none, 1.0, b))))


def entr(x: Operand, /) -> Tensor:
    """Return -x log(x): 0 at 0, -inf for x < 0."""
    (tensor,) = _floats("entr", as_tensor("entr", x))
    positive = ew.greater(tensor, 0)
    usual = ew.multiply(ew.negative(tensor), ew.log(ew.where(positive, tensor, 1.0)))
    below = ew.where(ew.less(tensor, 0), -math.inf, tensor)  # 0 and NaN are what they are
    return ew.where(positive, usual, below)


def sinc(x: Operand, /) -> Tensor:
    """Return sin(pi x) / (pi x), which is 1 at 0."""
    (tensor,) = _floats("sinc", as_tensor("sinc", x))
    middle = ew.equal(tensor, 0)
    # Wide enough that pi x keeps its digits: a sine's zeros are at whole x.
    angle = ew.multiply(ew.where(middle, 1.0, tensor).astype(promote(tensor.dtype, float32)), math.pi)
    return ew.where(middle, 1.0, ew.divide(ew.sin(angle), angle).astype(tensor.dtype))


psi = digamma
gammaln = lgamma

__all__ = [
    "digamma",
    "entr",
    "erf",
    "erfc",
    "erfcx",
    "erfinv",
    "exp2",
    "expit",
    "expm1",
    "gammainc",
    "gammaincc",
    "gammaln",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "lgamma",
    "log1p",
    "log_ndtr",
    "log_softmax",
    "logit",
    "logsumexp",
    "multigammaln",
    "ndtr",
    "ndtri",
    "polygamma",
    "psi",
    "round",
    "sinc",
    "softmax",
    "xlog1py",
    "xlogy",
    "zeta",
]
