"""Trustworthy A/B experiments: who is in them, what they measured, whether to believe it. Open `moments.py` first.

It imports nothing of treadle but `core`. The statistics read in this order: `moments.py` (what is known of groups of
units), `estimates.py` (a value and its variance per arm; `cuped.py`, `quantile.py`, `strata.py` and `clusters.py` make
the same), `effects.py` (two of them compared; `relative.py` and `margins.py` likewise), `sample_ratio.py` and
`multiple.py` (whether to believe it).

The data comes in through `inputs.py` and `engine.py` (one scan), perhaps made by `unit_table.py`; `metrics.py` says
what is measured and `analysis.py` puts all together.

Who is in it: `spec.py` (the experiment as a YAML file), `hashing.py`, `layers.py`, `assignment.py`, `audience.py`.
Whether to believe it and what to do: `checks/`, `verdict.py`, `calibrate.py`; how soon one can know: `power.py`,
`duration.py`, `always_valid.py`, `group_sequential.py`.
"""

from . import (
    always_valid,
    bandits,
    bayes,
    checks,
    compat,
    duration,
    group_sequential,
    hashing,
    heterogeneous,
    interleaving,
    offline,
    planted,
    power,
    simulate,
    spec,
)
from .analysis import Experiment
from .assignment import Assigned, Assigner, Assignments, assigner, one_layer
from .audience import Audience, Leakage, Manifest, Overlap, load_audience, saved_versions
from .bucket_axis import Bucket
from .calibrate import Calibration, calibrate
from .clusters import Blocks, design_effect, estimate_clustered, group_totals, switchback_blocks
from .comparison import Comparison, compare
from .conditions import Condition
from .cuped import Adjustment, estimate_cuped, fit_adjustment
from .effects import Effect, difference, effect
from .estimates import (
    Estimate,
    estimate,
    estimate_mean,
    estimate_proportion,
    estimate_ratio,
    proportion_of,
    why_undefined,
)
from .findings import Finding
from .funnel import Excluded, Funnel
from .jackknife import jackknife
from .layers import Allocation, Domain, Layer, Nested
from .lookalike import look_alike
from .margins import MarginTest, equivalence, non_inferiority
from .metrics import Capped, Count, Mean, Metric, Proportion, Quantile, Ratio, Retention
from .moment_table import MomentTable
from .moments import Moments
from .multiple import adjust_pvalues, gatekeep, interval_levels
from .permutation import Permutation, permutation_test
from .proportions import compare_proportions
from .quality import Policy
from .quantile import estimate_quantile, quantile_from_bounds, share_error
from .ranks import MannWhitney, mann_whitney
from .registry import Registered
from .regression import ancova
from .relative import relative_difference
from .request import Cap
from .resampling import Bootstrap, bootstrap
from .result import Result, Row, Rows
from .sample_ratio import SampleRatio, SequentialSampleRatio, sample_ratio_test, sequential_sample_ratio
from .selection import by_rule, threshold, top_k, uplift
from .spec import Spec
from .split import Split
from .strata import post_stratify, stratified
from .unit_table import Facts, Outcome, UnitTable, before, unit_table
from .verdict import Look, Verdict, decide

__all__ = [
    "Adjustment",
    "Allocation",
    "Assigned",
    "Assigner",
    "Assignments",
    "Audience",
    "Blocks",
    "Bootstrap",
    "Bucket",
    "Calibration",
    "Cap",
    "Capped",
    "Comparison",
    "Condition",
    "Count",
    "Domain",
    "Effect",
    "Estimate",
    "Excluded",
    "Experiment",
    "Facts",
    "Finding",
    "Funnel",
    "Layer",
    "Leakage",
    "Look",
    "Manifest",
    "MannWhitney",
    "MarginTest",
    "Mean",
    "Metric",
    "MomentTable",
    "Moments",
    "Nested",
    "Outcome",
    "Overlap",
    "Permutation",
    "Policy",
    "Proportion",
    "Quantile",
    "Ratio",
    "Registered",
    "Result",
    "Retention",
    "Row",
    "Rows",
    "SampleRatio",
    "SequentialSampleRatio",
    "Spec",
    "Split",
    "UnitTable",
    "Verdict",
    "adjust_pvalues",
    "always_valid",
    "ancova",
    "assigner",
    "bandits",
    "bayes",
    "before",
    "bootstrap",
    "by_rule",
    "calibrate",
    "checks",
    "compare",
    "compare_proportions",
    "compat",
    "decide",
    "design_effect",
    "difference",
    "duration",
    "effect",
    "equivalence",
    "estimate",
    "estimate_clustered",
    "estimate_cuped",
    "estimate_mean",
    "estimate_proportion",
    "estimate_quantile",
    "estimate_ratio",
    "fit_adjustment",
    "gatekeep",
    "group_sequential",
    "group_totals",
    "hashing",
    "heterogeneous",
    "interleaving",
    "interval_levels",
    "jackknife",
    "load_audience",
    "look_alike",
    "mann_whitney",
    "non_inferiority",
    "offline",
    "one_layer",
    "permutation_test",
    "planted",
    "post_stratify",
    "power",
    "proportion_of",
    "quantile_from_bounds",
    "relative_difference",
    "sample_ratio_test",
    "saved_versions",
    "sequential_sample_ratio",
    "share_error",
    "simulate",
    "spec",
    "stratified",
    "switchback_blocks",
    "threshold",
    "top_k",
    "unit_table",
    "uplift",
    "why_undefined",
]
