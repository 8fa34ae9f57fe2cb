"""Team draft: fair lists, right credit, an honest test."""

import numpy as np
import pytest
from scipy.stats import binomtest

from treadle.core import ConfigError, DataError
from treadle.experiment.interleaving import Interleaved, credit, credit_all, preference, sign_test, team_draft


def test_a_draft_picks_in_rounds_and_never_repeats() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        first, second = rng.permutation(12)[:8].tolist(), rng.permutation(12)[:8].tolist()
        got = team_draft(first, second, rng, length=7)
        assert len(set(got.items)) == len(got.items)
        for k in range(0, len(got.teams) - 1, 2):
            assert {got.teams[k], got.teams[k + 1]} == {0, 1}
        # Each item is the best of its team's ranking not shown before it.
        for k, (item, team) in enumerate(zip(got.items, got.teams, strict=True)):
            ranking = (first, second)[team]
            assert item == next(x for x in ranking if x not in got.items[:k])


def test_the_draft_ends_where_a_ranking_ends() -> None:
    got = team_draft(["a", "b"], ["b", "a", "c"], np.random.default_rng(2))
    assert set(got.items) == {"a", "b"}
    assert team_draft([], ["a"], np.random.default_rng(2)).items == ()


def test_both_teams_come_first_equally_often() -> None:
    rng = np.random.default_rng(3)
    firsts = [team_draft("abc", "def", rng).teams[0] for _ in range(4000)]
    assert abs(np.mean(firsts) - 0.5) < 0.03


def test_credit() -> None:
    shown = Interleaved(("a", "b", "c", "d"), (0, 1, 1, 0))
    assert credit(shown, ["b"]) == 1
    assert credit(shown, ["a", "a", "b"]) == 0
    assert credit(shown, ["a", "d", "c"]) == -1
    assert credit(shown, []) == 0
    teams, clicks = [[0, 1, 1, 0], [0, 1, -1, -1]], [[1, 0, 1, 1], [0, 1, 0, 0]]
    assert credit_all(teams, clicks).tolist() == [-1, 1]


@pytest.mark.parametrize(("wins", "losses"), [(7, 3), (0, 9), (60, 41), (5, 5)])
def test_the_sign_test_is_the_binomial_test(wins: int, losses: int) -> None:
    assert sign_test(wins, losses) == pytest.approx(binomtest(wins, wins + losses).pvalue, rel=1e-12)
    assert sign_test(0, 0) == 1.0


def test_the_preference_and_its_bootstrap() -> None:
    outcomes = np.repeat([1, 0, -1], [300, 500, 200])
    got = preference(outcomes)
    assert got.preference == pytest.approx((300 + 250) / 1000 - 0.5)
    assert (got.wins, got.ties, got.losses) == (300, 500, 200)
    se = np.std(outcomes) / 2 / np.sqrt(1000)
    np.testing.assert_allclose([got.lower, got.upper], got.preference + np.array([-1.96, 1.96]) * se, atol=0.002)
    assert preference(outcomes, seed=4) == preference(outcomes[::-1], seed=4)


def test_impressions_of_one_user_hang_together() -> None:
    outcomes = np.repeat([1, 0, -1], [30, 50, 20])
    alone = preference(outcomes)
    copied = preference(np.repeat(outcomes, 10), clusters=np.repeat(np.arange(100), 10))
    assert copied.p_value == alone.p_value
    np.testing.assert_allclose([copied.lower, copied.upper], [alone.lower, alone.upper], atol=0.01)
    assert preference(np.repeat(outcomes, 10)).upper < copied.upper


def simulate(impressions: int, better: float, seed: int) -> np.ndarray:
    """Return outcomes for users who click by place and relevance; ranker 1 puts relevant items higher by `better`."""
    rng, outcomes = np.random.default_rng(seed), []
    for _ in range(impressions):
        relevance = rng.random(10)
        first = np.argsort(-relevance + rng.normal(0, 0.5, 10))
        second = np.argsort(-relevance + rng.normal(0, 0.5 - better, 10))
        shown = team_draft(first.tolist(), second.tolist(), rng, length=6)
        look = 0.7 ** np.arange(len(shown.items))
        clicked = [
            item for item, seen in zip(shown.items, look, strict=True) if rng.random() < seen * relevance[item] * 0.6
        ]
        outcomes.append(credit(shown, clicked))
    return np.array(outcomes)


def test_the_better_ranker_is_found() -> None:
    got = preference(simulate(2500, 0.4, 5))
    assert got.p_value < 0.01
    assert got.lower > 0


@pytest.mark.slow
def test_no_preference_is_found_no_more_often_than_it_should() -> None:
    p = np.array([preference(simulate(120, 0.0, 100 + k), replicates=2).p_value for k in range(800)])
    assert np.mean(p <= 0.05) <= 0.05 + 0.0231  # three standard errors; the sign test is conservative


def test_errors() -> None:
    rng = np.random.default_rng(6)
    with pytest.raises(DataError, match=r"ranking 1 has 1 repeated items"):
        team_draft("ab", "bb", rng)
    with pytest.raises(DataError, match=r"1 clicked items were not shown, such as 'z'"):
        credit(Interleaved(("a",), (0,)), ["z"])
    with pytest.raises(DataError, match=r"teams have shape \(2,\), clicks \(3,\)"):
        credit_all([0, 1], [0, 1, 0])
    with pytest.raises(DataError, match=r"teams must be 0, 1 or -1"):
        credit_all([0, -1], [0, 1])
    with pytest.raises(DataError, match=r"outcomes of shape \(2,\) must be one number, 1, 0 or -1"):
        preference([1, 2])
    with pytest.raises(DataError, match=r"clusters has shape \(1,\) for 2 outcomes"):
        preference([1, 0], clusters=[1])
    with pytest.raises(ConfigError, match=r"level is 95, replicates 2000"):
        preference([1, 0], level=95)
