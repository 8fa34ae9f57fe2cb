"""Group sequential tests: a few planned looks, each with a boundary, and one error rate for all of them together.

The boundaries, powers, p-values and intervals are all chances of leaving a corridor (`crossing.py`). "JT" is Jennison
& Turnbull, "Group Sequential Methods", 2000.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from treadle.core import ConfigError, DataError

from .always_valid import check_alpha
from .crossing import Crossing, Walk, check_fractions, crossing, inside, root

Array = np.ndarray[Any, Any]
Numbers = Any  # a number or an array of numbers


def _obrien_fleming(t: Array, alpha: float, shape: float) -> Array:
    return 2 * ndtr(ndtri(alpha / 2) / np.sqrt(t))


def _hwang_shih_decani(t: Array, alpha: float, shape: float) -> Array:  # 1990
    return alpha * (t if shape == 0 else np.expm1(-shape * t) / math.expm1(-shape))


SPENDING: dict[str, Callable[[Array, float, float], Array]] = {
    # One-sided error spent by information fraction t.
    "lan-demets-obrien-fleming": _obrien_fleming,  # Lan & DeMets 1983
    "lan-demets-pocock": lambda t, alpha, shape: alpha * np.log1p((math.e - 1) * t),  # Lan & DeMets 1983
    "kim-demets": lambda t, alpha, shape: alpha * t**shape,  # Kim & DeMets 1987, the power family
    "hwang-shih-decani": _hwang_shih_decani,
}
EXPONENTS = {"pocock": 0.5, "obrien-fleming": 0.0}  # the boundary is a constant times t^(exponent - 1/2)
BOUNDARIES = (*EXPONENTS, "wang-tsiatis", *SPENDING)
SHAPED = ("wang-tsiatis", "kim-demets", "hwang-shih-decani")


@dataclass(frozen=True)
class Design:
    """A group sequential test: when to look, and how the error is shared among the looks.

    Args:
        looks: a number of evenly spaced looks, or the information fractions (n so far / n planned), rising, at most 1.
        alpha: error rate of all looks together, of both sides when `sided` is 2.
        sided: 2, or 1 for effects above the null only.
        boundary: "pocock" (1977), "obrien-fleming" (1979), "wang-tsiatis" (1987): fixed shapes for planned looks;
            "lan-demets-obrien-fleming", "lan-demets-pocock", "kim-demets", "hwang-shih-decani": spending functions.
        shape: exponent Delta of Wang-Tsiatis, rho of Kim-DeMets, gamma of Hwang-Shih-DeCani.
        futility: None; the name of the function that spends 1 - power; or z values, one for each look but the last,
            below which one stops. One-sided designs only.
        futility_shape: as `shape`, of the futility spending.
        binding: whether the boundary counts on stopping for futility. False keeps the error rate even when one
            goes on regardless, which is the safe choice.
        power: power that the futility spending and `characteristics` aim at.

    Raises ConfigError when a setting is not allowed.
    """

    looks: int | tuple[float, ...] = 5
    alpha: float = 0.05
    sided: int = 2
    boundary: str = "lan-demets-obrien-fleming"
    shape: float | None = None
    futility: str | tuple[float, ...] | None = None
    futility_shape: float | None = None
    binding: bool = False
    power: float = 0.8

    def __post_init__(self) -> None:
        if isinstance(self.looks, np.integer):
            object.__setattr__(self, "looks", int(self.looks))
        for field in ("looks", "futility"):  # lists become tuples: a design is a key of the cache of plans
            if isinstance(getattr(self, field), list | np.ndarray):
                object.__setattr__(self, field, tuple(float(value) for value in getattr(self, field)))
        check_alpha("Design", self.alpha)
        if self.sided not in {1, 2}:
            raise ConfigError(f"Design: sided is {self.sided}; it must be 1 or 2.")
        if self.boundary not in BOUNDARIES:
            raise ConfigError(f"Design: boundary is {self.boundary!r}; allowed are {', '.join(BOUNDARIES)}.")
        if not self.alpha / self.sided < self.power < 1:
            raise ConfigError(f"Design: power is {self.power}; it must lie between alpha and 1, such as 0.8.")
        _check_shape("shape", self.boundary, self.shape)
        check_fractions("Design", self.fractions)
        if self.futility is not None:
            self._check_futility()

    def _check_futility(self) -> None:
        if self.sided == 2:
            raise ConfigError("Design: futility needs sided=1; in a two-sided test no effect is futile on both sides.")
        if isinstance(self.futility, tuple):
            if len(self.futility) != len(self.fractions) - 1:
                raise ConfigError(
                    f"Design: futility has {len(self.futility)} values for {len(self.fractions)} looks; "
                    "give one z for each look but the last."
                )
        elif self.futility not in SPENDING:
            raise ConfigError(f"Design: futility is {self.futility!r}; allowed are {', '.join(SPENDING)} or z values.")
        else:
            _check_shape("futility_shape", self.futility, self.futility_shape)
            if self.binding and self.boundary not in SPENDING:
                raise ConfigError(
                    f"Design: binding futility by spending needs a boundary by spending, not {self.boundary!r}; "
                    f"use one of {', '.join(SPENDING)}, or give futility as z values."
                )

    @property
    def fractions(self) -> Array:
        """The information fractions of the planned looks [looks]."""
        if isinstance(self.looks, int):
            if self.looks < 1:
                raise ConfigError(f"Design: looks is {self.looks}; give at least 1, or information fractions.")
            return np.arange(1, self.looks + 1) / self.looks
        return np.asarray(self.looks, dtype=np.float64)


class Boundaries(NamedTuple):
    """When to stop, on the z scale, look by look: above `upper` reject; below `lower` reject (two-sided) or give up."""

    fraction: Array
    upper: Array
    lower: Array  # minus upper when two-sided; the futility boundary, or minus infinity, when one-sided
    spent: Array  # error spent up to and with this look, both sides together
    nominal: Array  # p-value, two-sided when the design is, at which the upper boundary lies


class Characteristics(NamedTuple):
    """What a design costs and brings against the test with one look at the end; sizes in units of that test's size."""

    drift: float  # expected z at fraction 1 that gives the power; effect times the root of the full information
    inflation: float  # largest size
    power: Array  # chance to have rejected by each look under the alternative
    futility: Array  # chance to stop for futility at each look under the alternative
    expected_null: float  # expected size without an effect
    expected_half: float  # with half of the planned effect
    expected_alternative: float  # with the planned effect


class Adjusted(NamedTuple):
    """An analysis after stopping, corrected for the looks by the stagewise ordering."""

    p_value: float
    effect: float  # median unbiased
    lower: float
    upper: float


def spending(name: str, fractions: Numbers, alpha: float, *, sided: int = 1, shape: float | None = None) -> Array:
    """Return the error spent up to each information fraction; all of it from fraction 1 on.

    A two-sided error is spent as two one-sided ones. Raises ConfigError for an unknown name or a missing shape.
    """
    if name not in SPENDING:
        raise ConfigError(f"spending: {name!r} is not a spending function; allowed are {', '.join(SPENDING)}.")
    _check_shape("shape", name, shape)
    t = np.minimum(np.asarray(fractions, dtype=np.float64), 1.0)
    return sided * SPENDING[name](t, alpha / sided, 0.0 if shape is None else shape)


def boundaries(design: Design) -> Boundaries:
    """Return the boundaries [looks] of the design at its planned looks (computed once per design)."""
    return _plan(design)[0]


def boundaries_at(design: Design, fractions: Sequence[float], *, final: bool = False) -> Boundaries:
    """Return the boundaries at the looks really taken: skipped, added or shifted ones keep the error rate.

    The error is spent by the design's function; designs of fixed shape spend what their plan spends up to each
    fraction, linearly between looks. `final` spends all that is left at the last fraction (as does a fraction of 1 or
    more). The times of looks may not depend on the effects seen. Futility as planned by spending is kept on its
    scale of fractions. Raises ConfigError when the fractions do not rise or futility is given as z values.
    """
    t = np.asarray(fractions, dtype=np.float64)
    check_fractions("boundaries_at", t, most=math.inf)
    if isinstance(design.futility, tuple):
        raise ConfigError("boundaries_at: futility as z values belongs to planned looks; use a spending function.")
    spent = _alpha_spent(design, t)
    if final:
        spent[-1] = design.alpha
    drift = _plan(design)[1] if design.futility is not None else 0.0
    return _by_spending(design, t, spent, drift)[0]


def characteristics(design: Design) -> Characteristics:
    """Return inflation factor, power look by look and expected sizes of the design at its power (JT chapter 2)."""
    bounds, drift = _plan(design)
    if drift == 0.0:
        drift = _drift_for(design, bounds)
    at = {share: crossing(bounds.fraction, bounds.lower, bounds.upper, share * drift) for share in (0.0, 0.5, 1.0)}
    fixed = float(ndtri(1 - design.alpha / design.sided) + ndtri(design.power)) ** 2
    inflation = drift**2 / fixed * float(bounds.fraction[-1])
    size = drift**2 / fixed * bounds.fraction

    def expected(result: Crossing) -> float:
        stop = result.upper[:-1] + result.lower[:-1]
        return float(stop @ size[:-1] + (1 - stop.sum()) * size[-1])

    two_sided = design.sided == 2
    rejected = at[1.0].upper + (at[1.0].lower if two_sided else 0.0)
    return Characteristics(
        drift=drift,
        inflation=inflation,
        power=np.cumsum(rejected),
        futility=np.zeros(size.size) if two_sided else at[1.0].lower,
        expected_null=expected(at[0.0]),
        expected_half=expected(at[0.5]),
        expected_alternative=expected(at[1.0]),
    )


def first_crossing(z: Numbers, bounds: Boundaries) -> tuple[Array, Array]:
    """Return where and how sequences of z [..., looks] stop: index of the look, and 1 above, -1 below, 0 never.

    Paths that never leave have the index of the last look. Raises DataError when the last axis has another length.
    """
    values = np.asarray(z, dtype=np.float64)
    if values.ndim == 0 or values.shape[-1] != bounds.upper.size:
        raise DataError(
            f"first_crossing: z has shape {values.shape}, the design {bounds.upper.size} looks. "
            "The last axis must be that of the looks."
        )
    side = (values >= bounds.upper).astype(np.int8) - (values <= bounds.lower)
    left = side != 0
    look = np.where(left.any(axis=-1), left.argmax(axis=-1), bounds.upper.size - 1)
    return look, np.take_along_axis(side, look[..., None], axis=-1)[..., 0]


def repeated_interval(effect: Numbers, standard_error: Numbers, bounds: Boundaries) -> tuple[Array, Array]:
    """Return the lower and upper ends [..., looks] of repeated confidence intervals (JT chapter 9).

    They hold together at all looks, whether or not one stops: effect -+ boundary x standard error.
    """
    half_width = np.asarray(standard_error) * bounds.upper
    return np.asarray(effect) - half_width, np.asarray(effect) + half_width


def adjusted(
    design: Design, fractions: Sequence[float] | Array, effect: float, standard_error: float, *, final: bool = False
) -> Adjusted:
    """Return p-value, median unbiased effect and interval for a test that stopped at the last of `fractions`.

    Outcomes are ordered stage by stage: stopping high early is the strongest evidence (Tsiatis, Rosner & Mehta 1984;
    JT section 8.4). The interval has level 1 - alpha (two-sided) or 1 - 2 alpha (one-sided); non-binding futility is
    left out of account. `final` as in `boundaries_at`. Raises DataError when the standard error is not above 0.
    """
    if not standard_error > 0:
        raise DataError(f"adjusted: the standard error is {standard_error}; it must be above 0.")
    t = np.asarray(fractions, dtype=np.float64)
    check_fractions("adjusted", t, most=math.inf)
    planned = design.fractions
    as_planned = t.size <= planned.size and np.array_equal(t, planned[: t.size]) and not final
    bounds = boundaries(design) if as_planned else boundaries_at(design, tuple(t), final=final)
    one_sided = design.sided == 1
    ignored = one_sided and not (design.binding and design.futility is not None)
    lower = np.full(t.size, -np.inf) if ignored else bounds.lower[: t.size]
    z = effect / standard_error
    upper = np.append(bounds.upper[: t.size - 1], z)

    def tail(eta: float) -> float:  # the chance of an outcome as high or higher; eta is effect / standard error
        return float(crossing(t, lower, upper, eta / math.sqrt(t[-1])).upper.sum())

    def effect_at(chance: float) -> float:
        return standard_error * root(lambda eta: float(ndtri(inside(tail(eta)))) - float(ndtri(chance)), z - 6, z + 6)

    level = design.alpha / design.sided
    above = tail(0.0)
    p = above if one_sided else 2 * min(above, 1 - above)
    return Adjusted(p, effect_at(0.5), effect_at(level), effect_at(1 - level))


def _check_shape(field: str, name: str, shape: float | None) -> None:
    if (name in SHAPED) != (shape is not None):
        wanted = "needs a number, such as 0.25 for wang-tsiatis or 2 for kim-demets" if name in SHAPED else "takes none"
        raise ConfigError(f"Design: {field} is {shape}, but {name!r} {wanted}.")
    if name == "kim-demets" and shape is not None and not shape > 0:
        raise ConfigError(f"Design: {field} is {shape}; the exponent of 'kim-demets' must be above 0.")


@lru_cache(maxsize=256)
def _plan(design: Design) -> tuple[Boundaries, float]:
    """Return the boundaries at the planned looks and the drift that futility spending aims at, 0 without."""
    t = design.fractions
    spent = _alpha_spent(design, t) if design.boundary in SPENDING else _fixed_shape(design)
    if not isinstance(design.futility, str):
        return _by_spending(design, t, spent, 0.0)
    drift = float(ndtri(1 - design.alpha) + ndtri(design.power)) / math.sqrt(t[-1])

    def missing(candidate: float) -> float:
        return _by_spending(design, t, spent, candidate)[1] - design.power

    drift = root(missing, drift, 1.3 * drift, 1e-10)
    return _by_spending(design, t, spent, drift)[0], drift


def _alpha_spent(design: Design, t: Array) -> Array:
    if design.boundary in SPENDING:
        return spending(design.boundary, t, design.alpha, sided=design.sided, shape=design.shape)
    planned = boundaries(design)
    spent = np.interp(t, np.append(0.0, planned.fraction), np.append(0.0, planned.spent))
    return np.where(t >= planned.fraction[-1], design.alpha, spent)


def _fixed_shape(design: Design) -> Array:
    """Return the error spent by look of a boundary of constant x t^(exponent - 1/2)."""
    t = design.fractions
    exponent = EXPONENTS.get(design.boundary, design.shape)
    assert exponent is not None, "checked by the design"
    form = (t / t[-1]) ** (exponent - 0.5)
    lower = _fixed_futility(design, t.size) if design.binding else np.full(t.size, -np.inf)

    def by_look(constant: float) -> Array:
        upper = constant * form
        return design.sided * crossing(t, -upper if design.sided == 2 else lower, upper).upper

    def excess(constant: float) -> float:
        return math.log(max(by_look(constant).sum(), 1e-300) / design.alpha)

    start = float(ndtri(1 - design.alpha / design.sided))
    return np.cumsum(by_look(root(excess, start, start + 0.7)))


def _fixed_futility(design: Design, looks: int) -> Array:
    given = design.futility if isinstance(design.futility, tuple) else (-np.inf,) * (looks - 1)
    return np.append(np.asarray(given, dtype=np.float64), -np.inf)


def _by_spending(design: Design, t: Array, spent: Array, drift: float) -> tuple[Boundaries, float]:
    """Return the boundaries that spend the given error and, with futility, the power at the drift (otherwise 0)."""
    by_beta = isinstance(design.futility, str)
    beta = np.zeros(t.size)
    if by_beta:
        assert isinstance(design.futility, str)
        beta = spending(design.futility, t, 1 - design.power, shape=design.futility_shape)
    upper, lower = np.full(t.size, np.inf), _fixed_futility(design, t.size)
    null, alternative, power = Walk(), Walk(drift), 0.0
    for k, at in enumerate(t):
        error = (spent[k] - (spent[k - 1] if k else 0.0)) / design.sided
        upper[k] = _level(lambda z, at=at: null.above(at, z), error)
        if by_beta:
            power += float(alternative.above(at, upper[k]))
            loss = beta[k] - (beta[k - 1] if k else 0.0)
            lower[k] = (
                upper[k]
                if k + 1 == t.size
                else min(-_level(lambda z, at=at: alternative.below(at, -z), loss), upper[k])
            )
        if k + 1 < t.size:
            inner = -upper[k] if design.sided == 2 else lower[k] if design.binding else -np.inf
            null.advance(at, inner, upper[k], t[k + 1])
            if by_beta:
                alternative.advance(at, lower[k], upper[k], t[k + 1])
    if isinstance(design.futility, tuple):
        lower[-1] = upper[-1]
    result = Boundaries(t, upper, -upper if design.sided == 2 else lower, spent, design.sided * ndtr(-upper))
    for array in result:
        array.setflags(write=False)  # the plan is shared
    return result, power


def _level(chance: Callable[[np.float64], Any], wanted: float) -> float:
    """Return the z above which lies the wanted chance (a falling function of z); infinity for no chance at all."""
    if wanted < 1e-300:
        return math.inf
    if float(chance(np.float64(-40.0))) <= wanted:
        return -math.inf
    start = -float(
        ndtri(wanted)
    )  # what it is if nobody has stopped so far; on the normal scale the chance is near a line
    return root(lambda z: float(ndtri(inside(float(chance(np.float64(z)))))) + start, start - 0.5, start)


def _drift_for(design: Design, bounds: Boundaries) -> float:
    """Return the drift at which the design has its power."""
    start = float(ndtri(1 - design.alpha / design.sided) + ndtri(design.power)) / math.sqrt(bounds.fraction[-1])

    def missing(drift: float) -> float:
        result = crossing(bounds.fraction, bounds.lower, bounds.upper, drift)
        reject = result.upper.sum() + (result.lower.sum() if design.sided == 2 else 0.0)
        return float(ndtri(inside(float(reject)))) - float(ndtri(design.power))

    return root(missing, start, 1.2 * start)
