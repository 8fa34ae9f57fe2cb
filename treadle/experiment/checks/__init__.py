"""Whether a result can be believed: one function a check, each returns a `Finding`. Open `traffic.py` first.

They take counts, `Moments`, estimates or plain arrays, so they need no engine, and run before an effect is shown.
"""

from .balance import covariate_balance, pre_period
from .exposure import assignment_drift, exposure_mismatch, exposure_table
from .layers import carry_over, layer_interaction
from .novelty import novelty
from .outliers import outlier_leverage
from .peeking import peeking
from .traffic import sample_ratio, sample_ratio_by, sample_ratio_over_time

__all__ = [
    "assignment_drift",
    "carry_over",
    "covariate_balance",
    "exposure_mismatch",
    "exposure_table",
    "layer_interaction",
    "novelty",
    "outlier_leverage",
    "peeking",
    "pre_period",
    "sample_ratio",
    "sample_ratio_by",
    "sample_ratio_over_time",
]
