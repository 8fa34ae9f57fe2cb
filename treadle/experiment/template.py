"""The commented YAML file that `treadle experiment new` writes."""

import re

from treadle.core.errors import ConfigError

_TEMPLATE = """\
# One experiment. Check it with `treadle experiment check`.
# Once it is registered, any change is a new version, and the report says so.
experiment: {key}
version: 1
hypothesis: A larger button brings more orders, and pages load as fast as before.
owner: me@example.org

unit:                     # what is randomised: one column, the same in every table below
  column: user_id
  type: integer           # or string

variants:                 # weights sum to 1
  control: 0.5
  treatment: 0.5
control: control          # the variant the others are compared with

layer:                    # experiments in one layer exclude each other; different layers are independent
  key: checkout
  version: 1              # raise it to shuffle everybody anew (breaks carry-over from the layer's last experiment)
  # start: 0              # this experiment's buckets, of 10000
  # stop: 5000
  # holdout: 0.05         # the share of the layer no experiment may use
traffic: 1.0              # the share of its buckets in use; raising it later moves nobody who is in

# audience:               # who may take part: a saved audience by name, or an SQL condition
#   name: lapsed-buyers
# conditions:
#   - {{column: country, op: in, value: [JP, KR]}}
# forced:                 # testers, left out of the analysis
#   42: treatment

start: 2026-01-05
end: 2026-01-18           # whole weeks, so that every weekday counts equally

sources:                  # tables, Parquet or CSV files; `unit` is the column above unless said otherwise
  exposures: {{table: exposures.parquet, time: exposed_at, variant: variant}}
  orders: {{table: orders.parquet, time: ordered_at}}
  visits: {{table: visits.parquet, time: visited_at}}

exposure: exposures       # a unit counts from its first row here

metrics:
  conversion:             # share of units with at least one row
    type: proportion
    source: orders
  revenue:                # sum of a column a unit (0 for those without rows)
    type: mean
    source: orders
    column: amount
  revenue_capped:
    type: capped
    source: orders
    column: amount
    cap_quantile: 0.99
  orders_per_visit:       # sum of one over sum of the other (delta method)
    type: ratio
    numerator: orders
    denominator: visits
  load_p95:               # over visits, with units as clusters
    type: quantile
    source: visits
    column: load_ms
    quantile: 0.95
  return_week_2:          # share of units with a row on days 7 to 13 after exposure
    type: retention
    source: visits
    from_day: 7
    to_day: 14

decision:
  metric: conversion
  direction: increase
  minimum_effect: 2%      # the smallest relative change worth having; the planner uses it

guardrails:               # must not get worse by more than the margin
  - {{metric: load_p95, direction: decrease, margin: 3%}}
  - {{metric: revenue, margin: 2%}}

covariates:               # what is known before exposure sharpens the estimate (CUPED)
  - {{metric: revenue, days: 14}}

stopping:                 # fixed | group-sequential | always-valid
  rule: group-sequential
  looks: [0.25, 0.5, 0.75, 1]
  spending: obrien-fleming
  alpha: 0.05
  power: 0.8
correction: holm          # for the metrics beside the decision metric: none | holm | benjamini-hochberg | gatekeeping
"""


def template(key: str) -> str:
    """The YAML text of a new experiment; it is valid as it stands.

    Raises:
        ConfigError: a key that is not made of letters, digits, `-`, `_` and `.`.
    """
    if not re.fullmatch(r"[\w.-]+", key):
        raise ConfigError(
            f"template: the key {key!r} is not allowed; use letters, digits, `-`, `_` and `.`; for instance "
            "checkout-button."
        )
    return _TEMPLATE.format(key=key)
