"""Offline evaluation: values that are right where the log covers the policy, and findings where it does not."""

import numpy as np
import pytest

from treadle.core import ConfigError, DataError
from treadle.experiment.offline import (
    doubly_robust_score,
    inverse_propensity_score,
    overlap,
    self_normalised_score,
)

RATES = np.array([[0.1, 0.4, 0.3], [0.5, 0.2, 0.3]])  # of reward, by context and action
OLD = np.array([[0.6, 0.2, 0.2], [0.3, 0.4, 0.3]])
NEW = np.array([[0.1, 0.7, 0.2], [0.6, 0.1, 0.3]])
TRUTH = float(np.mean(np.sum(RATES * NEW, axis=1)))
Z = 1.959963984540054


def log(n: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    context = rng.integers(0, 2, n)
    action = (rng.random(n)[:, None] > np.cumsum(OLD[context], axis=1)).sum(axis=1)
    reward = (rng.random(n) < RATES[context, action]).astype(float)
    model = np.where(np.arange(3) == 1, 0.3, 0.3) + 0.1 * context[:, None]  # a wrong model of rewards
    return {
        "reward": reward,
        "logged": OLD[context, action],
        "target": NEW[context, action],
        "predicted": model[np.arange(n), action],
        "predicted_target": np.sum(model * NEW[context], axis=1),
        "context": context,
    }


ESTIMATORS = {
    "ips": lambda x: inverse_propensity_score(x["reward"], x["logged"], x["target"]),
    "snips": lambda x: self_normalised_score(x["reward"], x["logged"], x["target"]),
    "dr": lambda x: doubly_robust_score(x["reward"], x["logged"], x["target"], x["predicted"], x["predicted_target"]),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_interval_covers_the_truth(name: str) -> None:
    results = [ESTIMATORS[name](log(800, seed)) for seed in range(400)]
    covered = np.mean([got.lower <= TRUTH <= got.upper for got in results])
    assert abs(covered - 0.95) < 0.04
    spread = np.std([got.value for got in results])
    assert np.mean([got.standard_error for got in results]) == pytest.approx(spread, rel=0.12)


def test_a_right_model_shrinks_the_interval_and_a_wrong_one_does_no_harm() -> None:
    x = log(20_000, 1)
    right = doubly_robust_score(
        x["reward"],
        x["logged"],
        x["target"],
        RATES[x["context"], np.argmax(OLD[x["context"]] == x["logged"][:, None], axis=1)],
        np.sum(RATES * NEW, axis=1)[x["context"]],
    )
    ips = ESTIMATORS["ips"](x)
    assert right.standard_error < 0.9 * ips.standard_error
    assert abs(ESTIMATORS["dr"](x).value - TRUTH) < 4 * ips.standard_error


def test_the_formulas_on_four_decisions() -> None:
    y, old, new = np.array([1.0, 0.0, 2.0, 1.0]), np.array([0.5, 0.25, 0.5, 1.0]), np.array([0.25, 0.5, 1.0, 0.0])
    w = np.array([0.5, 2.0, 2.0, 0.0])
    got = inverse_propensity_score(y, old, new)
    assert got.value == pytest.approx(np.mean(w * y))
    assert got.standard_error == pytest.approx(np.std(w * y, ddof=1) / 2)
    assert got.effective_size == pytest.approx(4.5**2 / 8.25)
    assert got.largest_weight == 2
    np.testing.assert_allclose([got.lower, got.upper], got.value + np.array([-Z, Z]) * got.standard_error)
    assert self_normalised_score(y, old, new).value == pytest.approx(4.5 / 4.5)
    assert inverse_propensity_score(y, old, new, clip=1.0).value == pytest.approx((0.5 + 0 + 2 + 0) / 4)
    got = doubly_robust_score(y, old, new, np.full(4, 0.5), np.full(4, 0.75))
    assert got.value == pytest.approx(0.75 + np.mean(w * (y - 0.5)))


def test_the_log_of_the_policy_itself_gives_the_plain_mean() -> None:
    x = log(500, 2)
    got = inverse_propensity_score(x["reward"], x["logged"], x["logged"])
    assert got.value == pytest.approx(x["reward"].mean())
    assert got.effective_size == pytest.approx(500)


def test_decisions_that_repeat_in_a_cluster_count_once() -> None:
    x = log(400, 3)
    alone = ESTIMATORS["ips"](x)
    copied = inverse_propensity_score(
        *(np.repeat(x[k], 5) for k in ("reward", "logged", "target")), clusters=np.repeat(np.arange(400), 5)
    )
    assert copied.standard_error == pytest.approx(alone.standard_error, rel=1e-9)
    assert copied.value == pytest.approx(alone.value)


def test_overlap_of_a_good_log() -> None:
    x = log(5000, 4)
    got = overlap(x["logged"], x["target"], all_logged=OLD[x["context"]], all_target=NEW[x["context"]])
    assert got.trusted
    assert got.mean_weight == pytest.approx(1, abs=0.06)
    assert got.unsupported == 0
    assert "the log covers the policy" in got.finding


def test_overlap_finds_wrong_propensities() -> None:
    x = log(5000, 5)
    got = overlap(np.minimum(x["logged"] * 1.3, 1), x["target"])
    assert not got.trusted
    assert "check the logged propensities" in got.finding
    assert np.isnan(got.unsupported)


def test_overlap_finds_actions_never_taken_and_policies_too_far_apart() -> None:
    never = np.tile([0.5, 0.5, 0.0], (1000, 1))
    wanted = np.tile([0.4, 0.4, 0.2], (1000, 1))
    got = overlap(np.full(1000, 0.5), np.full(1000, 0.4), all_logged=never, all_target=wanted)
    assert got.unsupported == pytest.approx(0.2)
    assert "20.0% of the new policy's decisions have no support" in got.finding
    rng = np.random.default_rng(6)
    rare = rng.random(20_000) < 0.001
    got = overlap(np.where(rare, 0.001, 0.999), np.where(rare, 0.999, 0.001))
    assert "the policies differ too much" in got.finding
    assert got.top_percent_share > 0.9


def test_errors() -> None:
    with pytest.raises(DataError, match=r"1 logged chances are not in \(0, 1\] and 1 target chances not in \[0, 1\]"):
        inverse_propensity_score([1, 2], [0, 1], [0.5, 2])
    with pytest.raises(DataError, match=r"target has shape \(3,\) with 0 values that are not finite; give 2"):
        inverse_propensity_score([1, 2], [0.5, 1], [0.5, 0.2, 0.1])
    with pytest.raises(DataError, match=r"reward has shape \(2,\) with 1 values that are not finite"):
        inverse_propensity_score([1, np.nan], [0.5, 1], [0.5, 0.2])
    with pytest.raises(DataError, match=r"1 decisions; an interval needs at least 2"):
        self_normalised_score([1], [0.5], [0.5])
    with pytest.raises(DataError, match=r"all weights are 0"):
        self_normalised_score([1, 2], [0.5, 0.5], [0.0, 0.0])
    with pytest.raises(ConfigError, match=r"clip is 0; the largest weight must be above 0"):
        inverse_propensity_score([1, 2], [0.5, 0.5], [0.5, 0.5], clip=0)
    with pytest.raises(ConfigError, match=r"level is 95; it must be above 0 and below 1"):
        inverse_propensity_score([1, 2], [0.5, 0.5], [0.5, 0.5], level=95)
    with pytest.raises(DataError, match=r"clusters has shape \(3,\) for 2 decisions"):
        inverse_propensity_score([1, 2], [0.5, 0.5], [0.5, 0.5], clusters=[1, 2, 3])
    with pytest.raises(DataError, match=r"all decisions are of one cluster"):
        inverse_propensity_score([1, 2], [0.5, 0.5], [0.5, 0.5], clusters=[1, 1])
    with pytest.raises(DataError, match=r"all_logged has shape \(2, 3\), all_target \(2, 2\), for 2 decisions"):
        overlap([0.5, 0.5], [0.5, 0.5], all_logged=np.ones((2, 3)), all_target=np.ones((2, 2)))
