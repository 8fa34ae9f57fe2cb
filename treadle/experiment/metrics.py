"""Metrics: what is measured of an arm. Each says which sources it needs and makes an estimate an arm from the moments.

A metric is a term (a column, or a ratio of two), perhaps with covariates (CUPED; several; CUPAC is a column of a
model's predictions as the covariate) and strata (the name of an axis), and the options of its test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from treadle.core import ConfigError, DataError

from .comparison import Comparison, compare
from .cuped import Pooling, estimate_cuped
from .effects import Test
from .estimates import Estimate, Term, from_gradient
from .floats import Alternative, floats
from .moments import Moments, stack
from .proportions import compare_proportions
from .quantile import estimate_quantile
from .relative import Base, Convention
from .request import Cap, Source, name_of
from .strata import post_stratify, stratified

Covariate = Source | tuple[Source, Source]
"""A column from before the experiment, or a ratio of two."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What all metrics have.

    Attributes:
        name: How results call it; made of the columns unless given.
        covariates: Columns, or pairs for ratios, known before the exposure (CUPED).
        strata: The axis whose chance imbalance between the arms is taken out.
        pooling: Where the covariates' coefficients come from; see `cuped.py`.
        test: "welch", "student" or "z"; see `effects.py`.
        relative: Convention of the relative effect; see `relative.py`.
        base: What the relative effect is measured against after CUPED.
        ddof: Of the variances.
        covariate_ddof: See `estimate_cuped`.
    """

    name: str = ""
    covariates: tuple[Covariate, ...] = ()
    strata: str | None = None
    pooling: Pooling = "total"
    test: Test = "welch"
    relative: Convention = "log-ratio"
    base: Base = "adjusted"
    ddof: float = 1
    covariate_ddof: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.covariates, str | Cap):
            object.__setattr__(self, "covariates", (self.covariates,))
        elif isinstance(self.covariates, list):
            object.__setattr__(self, "covariates", tuple(self.covariates))
        if not self.name:
            object.__setattr__(self, "name", self.default_name())

    def default_name(self) -> str:
        """Return the name where none is given."""
        return _name(self.term())

    def term(self) -> Term:
        """Return what is measured, in names of the moment table."""
        raise NotImplementedError

    def sources(self) -> tuple[Source, ...]:
        """Return the sources whose sums and products it needs, itself first."""
        raise NotImplementedError

    def columns(self) -> tuple[str, ...]:
        """Return their names in the moment table."""
        return tuple(dict.fromkeys(name_of(source) for source in self.sources()))

    def estimate(self, arms: Sequence[Moments]) -> list[Estimate]:
        """Return the estimate of each arm from its moments [...]; with strata, these are the last leading axis."""
        terms = [_term(covariate) for covariate in self.covariates]
        if not terms:
            if self.strata is not None:
                return post_stratify(arms, self.term(), ddof=self.ddof)
            return [from_gradient(arm, self.term(), self.ddof) for arm in arms]
        made = estimate_cuped(
            arms,
            self.term(),
            terms,
            pooling=self.pooling,
            ddof=self.ddof,
            covariate_ddof=self.covariate_ddof,
        )
        if self.strata is None:
            return made
        share = stack(arms).count.sum(0)
        return [stratified(each, share) for each in made]

    def compare(
        self,
        control: Estimate,
        treatment: Estimate,
        alternative: Alternative = "two-sided",
        confidence_level: float = 0.95,
    ) -> Comparison:
        """Return the effect between two estimates of this metric."""
        return compare(
            control,
            treatment,
            test=self.test,
            relative=self.relative,
            base=self.base,
            alternative=alternative,
            confidence_level=confidence_level,
        )


@dataclass(frozen=True)
class Mean(Metric):
    """The mean of a column over units."""

    column: Source

    def term(self) -> Term:
        """Return the column."""
        return name_of(self.column)

    def sources(self) -> tuple[Source, ...]:
        """Return the column and the covariates."""
        return self.column, *_parts(self.covariates)


@dataclass(frozen=True)
class Capped(Metric):
    """The mean of a column whose values above a limit count as the limit: a value `at`, or a `quantile` of all units.

    For a capped ratio give a `Ratio` a `Cap` as its numerator.
    """

    column: str
    at: float | None = field(default=None, kw_only=True)
    quantile: float | None = field(default=None, kw_only=True)

    @property
    def cap(self) -> Cap:
        """The column with its cap."""
        return Cap(self.column, self.at, self.quantile)

    def term(self) -> Term:
        """Return the capped column."""
        return self.cap.name

    def sources(self) -> tuple[Source, ...]:
        """Return the capped column and the covariates."""
        return self.cap, *_parts(self.covariates)


@dataclass(frozen=True)
class Count(Mean):
    """The mean number of something a unit: as `Mean`, of a column that must hold no negative number."""

    column: str


@dataclass(frozen=True)
class Proportion(Mean):
    """The share of units with a one in a column of zeros and ones (or booleans).

    Attributes:
        method: "mean" tests as a mean with `test` and `ddof`; "pooled" is the z-test with the pooled variance
            (Pearson's chi-squared), "corrected" the same with Yates's correction, "unpooled" with each arm's own.
    """

    column: str
    method: Literal["mean", "pooled", "corrected", "unpooled"] = field(default="mean", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in ("mean", "pooled", "corrected", "unpooled"):
            raise ConfigError(
                f"Proportion: method is {self.method!r}; it is one of 'mean', 'pooled', 'corrected', 'unpooled'."
            )
        if self.method != "mean" and (self.covariates or self.strata):
            raise ConfigError(
                f"Proportion: method {self.method!r} takes no covariates or strata; use method='mean' with them."
            )

    def estimate(self, arms: Sequence[Moments]) -> list[Estimate]:
        """Return the estimates as `Metric.estimate`.

        Raises:
            DataError: the column holds something else than zeros and ones.
        """
        for arm in arms:
            part = arm.select([self.column])
            p, n = part.mean[..., 0], part.count
            expected = n * p * (1 - p)
            if np.any(p < 0) or not np.allclose(part.product[..., 0, 0], expected, rtol=1e-9, atol=1e-9):
                raise DataError(f"Proportion: {self.column} is not a column of zeros and ones; use Mean for it.")
        return super().estimate(arms)

    def compare(
        self,
        control: Estimate,
        treatment: Estimate,
        alternative: Alternative = "two-sided",
        confidence_level: float = 0.95,
    ) -> Comparison:
        """Return the effect, its test by `method`."""
        made = super().compare(control, treatment, alternative, confidence_level)
        if self.method == "mean":
            return made
        test = compare_proportions(
            control,
            treatment,
            pooled=self.method != "unpooled",
            correction=self.method == "corrected",
            alternative=alternative,
            confidence_level=confidence_level,
        )
        return made._replace(
            effect_size=test.effect_size,
            effect_size_ci_lower=test.effect_size_ci_lower,
            effect_size_ci_upper=test.effect_size_ci_upper,
            pvalue=test.pvalue,
            statistic=test.statistic,
        )


@dataclass(frozen=True)
class Retention(Proportion):
    """The share of units that came back.

    A proportion whose column says whether a unit had a row in a window of days after its exposure (`unit_table`).
    """


@dataclass(frozen=True)
class Ratio(Metric):
    """The ratio of the sums of two columns (delta method), such as orders per session; either may be a `Cap`."""

    numerator: Source
    denominator: Source

    def term(self) -> Term:
        """Return both columns."""
        return name_of(self.numerator), name_of(self.denominator)

    def sources(self) -> tuple[Source, ...]:
        """Return both columns and the covariates'."""
        return self.numerator, self.denominator, *_parts(self.covariates)


@dataclass(frozen=True)
class Quantile(Metric):
    """The q-quantile of a column over rows. It needs the values: the engine fetches this column alone.

    Attributes:
        column: The values.
        q: A share such as 0.95.
        rows: The name under which `Experiment.analyze` is given a table of rows (page loads), with the unit and the
            variant of each; rows of a unit may depend on each other. None is a value a unit.
    """

    column: str
    q: float = 0.5
    rows: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.q < 1:
            raise ConfigError(f"Quantile: q is {self.q}; it is a share such as 0.95.")
        if self.covariates or self.strata:
            raise ConfigError("Quantile: covariates and strata are for metrics made of means; leave them out.")

    def default_name(self) -> str:
        """Return the column and q."""
        return f"{self.column} quantile {self.q:g}"

    def term(self) -> Term:
        """Return the column."""
        return self.column

    def sources(self) -> tuple[Source, ...]:
        """Return nothing: moments do not tell quantiles."""
        return ()

    def estimate_values(self, values: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
        """Return the estimate of an arm from its values [n] and the unit of each."""
        return estimate_quantile(floats(values), self.q, clusters)


def _parts(covariates: Sequence[Covariate]) -> list[Source]:
    return [part for one in covariates for part in (one if isinstance(one, tuple) else (one,))]


def _term(covariate: Covariate) -> Term:
    if isinstance(covariate, tuple):
        return name_of(covariate[0]), name_of(covariate[1])
    return name_of(covariate)


def _name(term: Term) -> str:
    return term if isinstance(term, str) else " / ".join(term)
