"""Other experiments in the numbers: what an earlier one in the layer left, and what one of another layer does."""

from __future__ import annotations

import numpy as np
from scipy import special

from treadle.core import DataError
from treadle.experiment.effects import difference, effect
from treadle.experiment.estimates import Estimate, Term, from_gradient
from treadle.experiment.findings import WARN, Check, Finding, Status, judge, probability
from treadle.experiment.floats import Array, floats
from treadle.experiment.moments import Moments

CARRY_OVER = Check(
    "carry-over",
    "Users remember what an earlier experiment in the same buckets did to them. If its arms are spread unevenly over "
    "today's, its effect is counted as today's (Kohavi et al. 2012, the fifth of their puzzling outcomes).",
    "Give the layer a new version (a new salt), which spreads the old arms evenly, and run again; where they are even "
    "already, an effect that is left over only adds noise.",
)
INTERACTION = Check(
    "layer interaction",
    "Layers are shuffled independently so that each effect is an average over the other's arms. If the effect depends "
    "on the other arm, that average holds for no user once the other experiment ends.",
    "Read the effect within each arm of the other experiment, and decide the two together; put changes that touch the "
    "same place into one layer next time.",
)


def carry_over(table: Moments, metric: Term) -> Finding:
    """Return whether arms of an earlier experiment are spread evenly over today's, and whether they still differ.

    Args:
        table: Moments [earlier arms, arms] of units that were in the earlier experiment.
        metric: A column, or a ratio (numerator, denominator).

    Uneven arms block, as salts do not make them; what the earlier arms still differ by is said. A difference that is
    spread evenly passes.

    Raises:
        DataError: the table has not two axes of two or more arms each, or an arm has no units.
    """
    counts = _checked("carry_over", table)
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / counts.sum()
    df = (counts.shape[0] - 1) * (counts.shape[1] - 1)
    even = float(special.chdtrc(df, ((counts - expected) ** 2 / expected).sum()))
    # Within today's control the earlier arms differ only by what the earlier experiment left.
    arms = [from_gradient(table[i, 0], metric) for i in range(counts.shape[0])]
    left = [difference(arms[0], arm) for arm in arms[1:]]
    least = min(range(len(left)), key=lambda i: _or_one(left[i].pvalue))
    p = min(1.0, _or_one(left[least].pvalue) * len(left))
    status = judge(even)
    shares = counts / counts.sum(1, keepdims=True)
    return CARRY_OVER.finding(
        status,
        f"Earlier arms are spread {'evenly' if status == 'pass' else 'unevenly'} over today's ("
        f"{probability(even)}; "
        f"first arm's share {shares[:, 0].min():.2%} to {shares[:, 0].max():.2%}); in today's control they differ by "
        f"{float(left[least].effect_size):+.4g} ({probability(p)}).",
        pvalue=even,
        left_pvalue=p,
        left=float(left[least].effect_size),
        counts=counts.tolist(),
    )


def layer_interaction(table: Moments, metric: Term, other: str = "the other experiment") -> Finding:
    """Return whether the effect depends on the arm of an experiment in another layer: a test of differences of effects.

    Args:
        table: Moments [arms, other arms]; controls first.
        metric: A column, or a ratio (numerator, denominator).
        other: How the other experiment is called.

    It warns of an interaction, and blocks one in which the effect turns its sign (a qualitative interaction, Gail and
    Simon 1985) so clearly that both effects are significant.

    Raises:
        DataError: as `carry_over`.
    """
    counts = _checked("layer_interaction", table)
    cell = from_gradient(table, metric)
    value, variance, df = (floats(x) for x in (cell.value, cell.variance, cell.df))
    found: list[tuple[float, float, float, float]] = []
    for i in range(1, counts.shape[0]):
        for j in range(1, counts.shape[1]):
            at = np.ix_([0, i], [0, j])
            contrast = (value[i, j] - value[0, j]) - (value[i, 0] - value[0, 0])
            parts = variance[at]
            free = parts.sum() ** 2 / (parts**2 / df[at]).sum() if parts.sum() > 0 else np.inf
            p = _or_one(effect(contrast, parts.sum(), free).pvalue)
            found.append((p, float(contrast), value[i, 0] - value[0, 0], value[i, j] - value[0, j]))
    p, contrast, without, within = min(found)
    p = min(1.0, p * len(found))
    status: Status = "pass" if p >= WARN else "block" if _turns(cell, counts.shape) and judge(p) == "block" else "warn"
    return INTERACTION.finding(
        status,
        f"The effect is {without:+.4g} in the control of {other} and {within:+.4g} in its treatment: "
        f"{contrast:+.4g} apart ({probability(p)}, {len(found)} contrasts).",
        pvalue=p,
        interaction=contrast,
        effects=[float(without), float(within)],
    )


def _turns(cell: Estimate, shape: tuple[int, ...]) -> bool:
    """Whether a treatment has a significant effect of each sign, in different arms of the other experiment."""
    value, variance = floats(cell.value), floats(cell.variance)
    for i in range(1, shape[0]):
        z = (value[i] - value[0]) / np.sqrt(variance[i] + variance[0])
        if z.max() > 1.96 and z.min() < -1.96:
            return True
    return False


def _checked(op: str, table: Moments) -> Array:
    if (
        table.count.ndim != 2
        or min(table.shape) < 2
        or np.any(table.count.sum(0) == 0)
        or np.any(table.count.sum(1) == 0)
    ):
        raise DataError(
            f"{op}: counts {table.count.tolist()}; give moments [arms, arms] of two or more arms each, all with units."
        )
    return table.count


def _or_one(p: object) -> float:
    number = float(floats(p))  # pyright: ignore[reportArgumentType]
    return 1.0 if np.isnan(number) else number
