"""Bayesian answers: how sure one may be that B beats A, what a wrong choice costs, where the effect probably lies.

One idea: what is known of an arm is a posterior with a distribution function, mean excesses over a value, and the
points of a quadrature. Every comparison of two arms is then an expectation over the narrower of the two posteriors
of a smooth function of the wider one, to about 1e-10, with no sampling. Arrays of arms broadcast.

The priors are part of the answer: report them. Stopping when the chance passes a bar is no frequentist guarantee.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import betainc, betaincc, betaincinv, gammaln, ndtr, ndtri, stdtr, stdtrit

from treadle.core import ConfigError, DataError

Array = np.ndarray[Any, Any]
Numbers = Any  # a number or an array of numbers

NODES = 384
TAIL = 1e-17  # chance left out at each end of a quadrature
KINDS = ("absolute", "relative")


class BayesianEffect(NamedTuple):
    """An effect of treatment over control, where more is better; fields have the shape of the inputs."""

    effect: Array  # posterior mean, or median where the kind is "relative" and arms are compared
    lower: Array
    upper: Array
    chance_to_beat: Array  # posterior chance that treatment is above control
    loss_treatment: Array  # expected loss of choosing the treatment, E max(control - treatment, 0)
    loss_control: Array  # expected loss of staying with control


class BetaPosterior(NamedTuple):
    """What is known of a proportion: Beta(a, b)."""

    a: Array
    b: Array

    @property
    def mean(self) -> Array:
        """The posterior mean."""
        return self.a / (self.a + self.b)

    @property
    def sd(self) -> Array:
        """The posterior standard deviation."""
        return np.sqrt(self.mean * (1 - self.mean) / (self.a + self.b + 1))

    def cdf(self, x: Array) -> Array:
        """Return the chance to be below x."""
        return betainc(self.a, self.b, np.clip(x, 0.0, 1.0))

    def sf(self, x: Array) -> Array:
        """Return the chance to be above x."""
        return betaincc(self.a, self.b, np.clip(x, 0.0, 1.0))

    def excess(self, x: Array) -> Array:
        """Return E max(p - x, 0)."""
        return self.mean * BetaPosterior(self.a + 1, self.b).sf(x) - x * self.sf(x)

    def shortfall(self, x: Array) -> Array:
        """Return E max(x - p, 0)."""
        return x * self.cdf(x) - self.mean * BetaPosterior(self.a + 1, self.b).cdf(x)

    def quadrature(self) -> tuple[Array, Array]:
        """Return points and weights [..., nodes]: even steps of log-odds, where a Beta density is smooth."""
        low, high = (np.clip(betaincinv(*ab, TAIL), 1e-300, 0.5) for ab in ((self.a, self.b), (self.b, self.a)))
        log_odds = _grid(np.log(low) - np.log1p(-low), np.log1p(-high) - np.log(high))
        log_p, log_q = -np.logaddexp(0, -log_odds), -np.logaddexp(0, log_odds)
        return np.exp(log_p), _normalised(self.a[..., None] * log_p + self.b[..., None] * log_q)


class StudentPosterior(NamedTuple):
    """What is known of a mean: location + scale x Student's t with df degrees of freedom."""

    location: Array
    scale: Array
    df: Array

    @property
    def mean(self) -> Array:
        """The posterior mean."""
        return self.location

    @property
    def sd(self) -> Array:
        """The scale: the standard deviation need not exist."""
        return self.scale

    def cdf(self, x: Array) -> Array:
        """Return the chance to be below x."""
        return stdtr(self.df, (x - self.location) / self.scale)

    def sf(self, x: Array) -> Array:
        """Return the chance to be above x."""
        return stdtr(self.df, (self.location - x) / self.scale)

    def excess(self, x: Array) -> Array:
        """Return E max(mean - x, 0), which needs more than one degree of freedom."""
        s, df = (x - self.location) / self.scale, self.df
        log_density = gammaln((df + 1) / 2) - gammaln(df / 2) - np.log(df * np.pi) / 2
        density = np.exp(log_density - (df + 1) / 2 * np.log1p(s * s / df))
        return self.scale * np.maximum((df + s * s) / (df - 1) * density - s * stdtr(df, -s), 0.0)

    def shortfall(self, x: Array) -> Array:
        """Return E max(x - mean, 0)."""
        return StudentPosterior(-self.location, self.scale, self.df).excess(-x)

    def quadrature(self) -> tuple[Array, Array]:
        """Return points and weights [..., nodes]: even steps of arsinh, where long tails fall off fast."""
        end = np.arcsinh(-stdtrit(self.df, TAIL))
        u = _grid(-end, end)
        df = self.df[..., None]
        log_density = -(df + 1) / 2 * np.log1p(np.sinh(u) ** 2 / df) + np.log(np.cosh(u))
        return self.location[..., None] + self.scale[..., None] * np.sinh(u), _normalised(log_density)


class NormalPosterior(NamedTuple):
    """What is known of a mean whose error is known: N(location, scale^2)."""

    location: Array
    scale: Array

    @property
    def mean(self) -> Array:
        """The posterior mean."""
        return self.location

    @property
    def sd(self) -> Array:
        """The posterior standard deviation."""
        return self.scale

    def cdf(self, x: Array) -> Array:
        """Return the chance to be below x."""
        return ndtr((x - self.location) / self.scale)

    def sf(self, x: Array) -> Array:
        """Return the chance to be above x."""
        return ndtr((self.location - x) / self.scale)

    def excess(self, x: Array) -> Array:
        """Return E max(mean - x, 0)."""
        s = (x - self.location) / self.scale
        return self.scale * np.maximum(np.exp(-0.5 * s * s) / np.sqrt(2 * np.pi) - s * ndtr(-s), 0.0)

    def shortfall(self, x: Array) -> Array:
        """Return E max(x - mean, 0)."""
        return NormalPosterior(-self.location, self.scale).excess(-x)

    def quadrature(self) -> tuple[Array, Array]:
        """Return points and weights [..., nodes], evenly spaced."""
        end = np.full(self.location.shape, -ndtri(TAIL))
        s = _grid(-end, end)
        return self.location[..., None] + self.scale[..., None] * s, _normalised(-0.5 * s * s)


Posterior = BetaPosterior | StudentPosterior | NormalPosterior


def proportion_posterior(successes: Numbers, trials: Numbers, prior: tuple[float, float] = (1.0, 1.0)) -> BetaPosterior:
    """Return the posterior of a proportion under a Beta prior (default: uniform); arguments broadcast.

    Raises ConfigError for a prior that is not positive, DataError for impossible counts.
    """
    k, n = np.broadcast_arrays(np.asarray(successes, float), np.asarray(trials, float))
    if not (prior[0] > 0 and prior[1] > 0):
        raise ConfigError(f"proportion_posterior: the prior is Beta{prior}; both numbers must be above 0.")
    wrong = ~((k >= 0) & (k <= n))
    if np.any(wrong):
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise DataError(
            f"proportion_posterior: {int(wrong.sum())} counts are impossible, the first with {k[at]:g} successes in "
            f"{n[at]:g} trials. Successes must lie between 0 and the trials."
        )
    return BetaPosterior(k + prior[0], n - k + prior[1])


class NormalInverseGamma(NamedTuple):
    """A prior of mean and variance: variance ~ InverseGamma(shape, rate), mean ~ N(location, variance / weight).

    The default is the improper one under which the posterior of the mean is the t distribution of the t-test.
    """

    location: float = 0.0
    weight: float = 0.0  # how many observations the prior mean counts for
    shape: float = -0.5
    rate: float = 0.0


def mean_posterior(
    mean: Numbers, variance: Numbers, n: Numbers, prior: NormalInverseGamma | None = None
) -> StudentPosterior:
    """Return the posterior of a mean from sample mean, sample variance (ddof 1) and size; arguments broadcast.

    Murphy, "Conjugate Bayesian analysis of the Gaussian distribution", 2007, section 3. Raises DataError when the data
    with this prior leave no distribution (fewer than two units, no variance).
    """
    m, v, size = np.broadcast_arrays(np.asarray(mean, float), np.asarray(variance, float), np.asarray(n, float))
    p = prior or NormalInverseGamma()
    weight, shape = p.weight + size, p.shape + size / 2
    rate = p.rate + (size - 1) * v / 2 + p.weight * size * np.square(m - p.location) / (2 * weight)
    if not (np.all(weight > 0) and np.all(shape > 0) and np.all(rate > 0)):
        raise DataError(
            f"mean_posterior: {int(np.sum(~((weight > 0) & (shape > 0) & (rate > 0))))} arms have too few units or no "
            "variance for a posterior. Give a proper prior or leave them out."
        )
    return StudentPosterior((p.weight * p.location + size * m) / weight, np.sqrt(rate / (shape * weight)), 2 * shape)


def compare(control: Posterior, treatment: Posterior, *, level: float = 0.95, kind: str = "absolute") -> BayesianEffect:
    """Return the posterior of treatment - control, or with kind "relative" of treatment / control - 1.

    The interval has equal tails. Losses are in the unit of the arms, for "relative" as a share of the mean of control.
    Raises ConfigError for an unknown kind or level, DataError when a relative effect divides by what may be 0.
    """
    if kind not in KINDS:
        raise ConfigError(f"compare: kind is {kind!r}; allowed are {', '.join(KINDS)}.")
    _check_level("compare", level)
    relative = kind == "relative"
    if relative and np.any(control.cdf(np.zeros_like(control.mean)) > 1e-6):
        raise DataError(
            "compare: control may be 0 or below, so that a relative effect has no meaning. Use kind='absolute'."
        )
    lower, middle, upper = (
        effect_quantile(control, treatment, q, kind=kind) for q in ((1 - level) / 2, 0.5, (1 + level) / 2)
    )
    unit = control.mean if relative else 1.0
    return BayesianEffect(
        effect=middle if relative else treatment.mean - control.mean,
        lower=lower,
        upper=upper,
        chance_to_beat=chance_to_beat(control, treatment),
        loss_treatment=expected_loss(control, treatment) / unit,
        loss_control=expected_loss(treatment, control) / unit,
    )


def chance_to_beat(control: Posterior, treatment: Posterior) -> Array:
    """Return the chance that treatment is above control."""
    narrow, wide, swapped = _ordered(control, treatment)
    x, weight = narrow.quadrature()
    chance: Array = np.where(swapped[..., None], wide.sf(x), wide.cdf(x))
    return np.sum(chance * weight, axis=-1)


def expected_loss(control: Posterior, treatment: Posterior) -> Array:
    """Return E max(control - treatment, 0): what choosing the treatment costs where it is the worse one.

    Stucchio, "Bayesian A/B testing at VWO", 2015. Swap the arguments for the loss of staying with control.
    """
    narrow, wide, swapped = _ordered(control, treatment)
    x, weight = narrow.quadrature()
    loss: Array = np.where(swapped[..., None], wide.shortfall(x), wide.excess(x))
    return np.sum(loss * weight, axis=-1)


def effect_quantile(control: Posterior, treatment: Posterior, q: float, *, kind: str = "absolute") -> Array:
    """Return the q-quantile of treatment - control, or of treatment / control - 1 for kind "relative"."""
    narrow, wide, swapped = _ordered(control, treatment)
    x, weight = narrow.quadrature()
    at = swapped[..., None]  # x is a value of control there, of treatment elsewhere

    def below(d: Array) -> Array:
        chance: Array
        if kind == "absolute":
            chance = np.where(at, wide.cdf(x + d[..., None]), wide.sf(x - d[..., None]))
        else:
            factor = 1 + d[..., None]
            # t < f c with t known: c > t / f, or c < t / f where f is negative.
            quotient = x / np.where(factor == 0, 1e-300, factor)
            chance = np.where(at, wide.cdf(x * factor), np.where(factor > 0, wide.sf(quotient), wide.cdf(quotient)))
        return np.sum(chance * weight, axis=-1)

    ends = [posterior.quadrature()[0][..., [0, -1]] for posterior in (control, treatment)]
    if kind == "absolute":
        low, high = ends[1][..., 0] - ends[0][..., 1], ends[1][..., 1] - ends[0][..., 0]
    else:
        # The smallest control of the grid may be near 0: widen from the median instead of dividing by it.
        low = np.minimum(ends[1][..., 0], 0) / control.mean * 10 - 1
        high = np.ones_like(low)
        while np.any(short := below(high) < q):
            high = np.where(short, 2 * high + 1, high)
    for _ in range(60):
        middle = (low + high) / 2
        under = below(middle) < q
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return (low + high) / 2


def chance_best(posterior: Posterior) -> Array:
    """Return the chance of each arm [..., arms] to be the best one: the propensities of Thompson sampling.

    Exact to 1e-6 unless one posterior is over twenty times wider than another.
    """
    x, weight = posterior.quadrature()
    arms = int(x.shape[-2])
    product = np.ones_like(x)
    for rival in range(arms):
        other = type(posterior)(*(field[..., rival, None, None] for field in posterior))
        mine: Array = np.arange(arms)[:, None] == rival
        product *= np.where(mine, 1.0, other.cdf(x))
    chance = np.sum(product * weight, axis=-1)
    return chance / chance.sum(axis=-1, keepdims=True)


def normal_effect(
    effect: Numbers,
    standard_error: Numbers,
    *,
    prior_mean: Numbers = 0.0,
    prior_sd: Numbers = np.inf,
    level: float = 0.95,
) -> BayesianEffect:
    """Return the posterior of an effect from its estimate and standard error under a normal prior; arguments broadcast.

    Prior and effect share a unit: for a prior on the *relative* effect, as GrowthBook has it, give the relative effect
    and its error, or for an absolute effect multiply the prior by the mean of control (`relative_prior`). An infinite
    `prior_sd` is a flat prior. Losses are E max(-effect, 0) and E max(effect, 0); GrowthBook calls them risks.
    Raises ConfigError for a prior_sd that is not above 0, DataError when a standard error is not above 0.
    """
    _check_level("normal_effect", level)
    estimate, se = np.broadcast_arrays(np.asarray(effect, float), np.asarray(standard_error, float))
    if not np.all(se > 0):
        raise DataError(
            f"normal_effect: {int(np.sum(~(se > 0)))} standard errors are not above 0. Leave those effects out."
        )
    if not np.all(np.asarray(prior_sd) > 0):
        raise ConfigError(f"normal_effect: prior_sd is {prior_sd}; it must be above 0, or infinite for a flat prior.")
    precision, prior_precision = 1 / np.square(se), 1 / np.square(np.asarray(prior_sd, float))
    sd = 1 / np.sqrt(precision + prior_precision)
    mean = (estimate * precision + np.asarray(prior_mean, float) * prior_precision) * sd * sd
    z, half = mean / sd, -ndtri((1 - level) / 2) * sd
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return BayesianEffect(
        effect=mean,
        lower=mean - half,
        upper=mean + half,
        chance_to_beat=ndtr(z),
        loss_treatment=np.maximum(sd * density - mean * ndtr(-z), 0.0),
        loss_control=np.maximum(sd * density + mean * ndtr(z), 0.0),
    )


def relative_prior(mean: float, sd: float, control_mean: Numbers) -> tuple[Array, Array]:
    """Return mean and sd, in the metric's unit, of a prior on the relative effect; for an absolute effect."""
    unit = np.abs(np.asarray(control_mean, dtype=np.float64))
    return mean * unit, sd * unit


def _check_level(what: str, level: float) -> None:
    if not 0 < level < 1:
        raise ConfigError(f"{what}: level is {level}; it must be above 0 and below 1, such as 0.95.")


def _grid(low: Array, high: Array) -> Array:
    return low[..., None] + (high - low)[..., None] * np.linspace(0.0, 1.0, NODES)


def _normalised(log_density: Array) -> Array:
    weight = np.exp(log_density - log_density.max(axis=-1, keepdims=True))
    return weight / weight.sum(axis=-1, keepdims=True)


def _ordered(control: Posterior, treatment: Posterior) -> tuple[Posterior, Posterior, Array]:
    """Return the narrower posterior, the wider one (with an axis for points), and where control is the narrower."""
    if type(control) is not type(treatment):
        raise ConfigError(
            f"compare: the arms are {type(control).__name__} and {type(treatment).__name__}; use one kind for both."
        )
    fields = np.broadcast_arrays(*control, *treatment)
    mine, theirs = fields[: len(control)], fields[len(control) :]
    swapped = np.asarray(type(control)(*mine).sd <= type(control)(*theirs).sd)
    narrow = type(control)(*(np.where(swapped, m, t) for m, t in zip(mine, theirs, strict=True)))
    wide = type(control)(*(np.where(swapped, t, m)[..., None] for m, t in zip(mine, theirs, strict=True)))
    return narrow, wide, swapped
