"""Interleaving: two rankers share one list, and clicks say whose items users prefer; far fewer users than an A/B test.

One idea: in the team draft, the rankers pick in turns like team captains, a coin deciding who is first in each round;
every item belongs to the team that picked it, and an impression is won by the team with more clicks. Under no
preference wins and losses are equally likely, whatever the order of the list does to clicks (Radlinski, Kurup &
Joachims 2008). The outcome is a preference between rankers, not the size of an effect on a metric.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import bdtr

from treadle.core import ConfigError, DataError

Array = np.ndarray[Any, Any]
Numbers = Any  # a sequence or array of numbers

NO_TEAM = -1  # in arrays of teams: no item at this place


class Interleaved(NamedTuple):
    """A list to show, and the team, 0 or 1, of each item."""

    items: tuple[Hashable, ...]
    teams: tuple[int, ...]


class Preference(NamedTuple):
    """How much users prefer ranker 1 over ranker 0."""

    preference: float  # (wins + ties / 2) / impressions - 1/2: from -0.5 to 0.5 (Chapelle et al. 2012)
    lower: float  # of a bootstrap over clusters
    upper: float
    p_value: float  # exact sign test, each cluster that leans one way being one vote
    wins: int  # impressions won by ranker 1
    losses: int
    ties: int  # among them impressions without clicks


def team_draft(
    first: Sequence[Hashable], second: Sequence[Hashable], rng: np.random.Generator, *, length: int | None = None
) -> Interleaved:
    """Return the team draft of two rankings (of any hashable items), best first, up to `length` items.

    It ends where one of the rankings has nothing left to pick. Raises DataError when a ranking repeats an item.
    """
    rankings = (tuple(first), tuple(second))
    for team, ranking in enumerate(rankings):
        repeated = len(ranking) - len(set(ranking))
        if repeated:
            raise DataError(f"team_draft: ranking {team} has {repeated} repeated items; every item is ranked once.")
    limit = sum(map(len, rankings)) if length is None else length
    items: list[Hashable] = []
    teams: list[int] = []
    taken: set[Hashable] = set()
    at, picks = [0, 0], [0, 0]
    while len(items) < limit:
        for team in (0, 1):
            while at[team] < len(rankings[team]) and rankings[team][at[team]] in taken:
                at[team] += 1
        if any(at[team] == len(rankings[team]) for team in (0, 1)):
            break
        team = int(rng.integers(2)) if picks[0] == picks[1] else int(picks[1] < picks[0])
        item = rankings[team][at[team]]
        items.append(item)
        teams.append(team)
        taken.add(item)
        picks[team] += 1
    return Interleaved(tuple(items), tuple(teams))


def credit(shown: Interleaved, clicked: Iterable[Hashable]) -> int:
    """Return who won an impression: 1 ranker 1, -1 ranker 0, 0 a tie. An item clicked twice counts once.

    Raises DataError when a clicked item was not shown.
    """
    team_of = dict(zip(shown.items, shown.teams, strict=True))
    clicks = set(clicked)
    unknown = clicks - team_of.keys()
    if unknown:
        raise DataError(f"credit: {len(unknown)} clicked items were not shown, such as {next(iter(unknown))!r}.")
    ones = sum(team_of[item] for item in clicks)
    return int(np.sign(2 * ones - len(clicks)))


def credit_all(teams: Numbers, clicks: Numbers) -> Array:
    """Return who won each of many impressions [...], from teams (0, 1, or -1 for no item) and clicks [..., places].

    Raises DataError when shapes differ, a team is another number, or a place without an item was clicked.
    """
    team, click = np.asarray(teams), np.asarray(clicks, dtype=bool)
    if team.shape != click.shape or team.ndim == 0:
        raise DataError(f"credit_all: teams have shape {team.shape}, clicks {click.shape}; both must be [..., places].")
    if not np.all(np.isin(team, (NO_TEAM, 0, 1))) or np.any(click & (team == NO_TEAM)):
        raise DataError("credit_all: teams must be 0, 1 or -1 for no item, and only places with items can be clicked.")
    return np.sign(np.sum(np.where(team == 1, 1, -1) * click, axis=-1))


def preference(
    outcomes: Numbers, *, clusters: Numbers | None = None, level: float = 0.95, replicates: int = 2000, seed: int = 0
) -> Preference:
    """Return the preference for ranker 1 from the outcomes 1, 0, -1 of impressions [n].

    `clusters` are ids [n] of users or sessions, which are resampled whole and have one vote each in the sign test.
    Raises DataError on other outcomes or lengths, ConfigError on a bad level or number of replicates.
    """
    if not 0 < level < 1 or replicates < 1:
        raise ConfigError(
            f"preference: level is {level}, replicates {replicates}; give a level in (0, 1), such as 0.95."
        )
    won = np.asarray(outcomes)
    if won.ndim != 1 or won.size == 0 or not np.all(np.isin(won, (-1, 0, 1))):
        raise DataError(f"preference: outcomes of shape {won.shape} must be one number, 1, 0 or -1, per impression.")
    ids = np.arange(won.size) if clusters is None else np.asarray(clusters)
    if ids.shape != won.shape:
        raise DataError(f"preference: clusters has shape {ids.shape} for {won.size} outcomes; give one id for each.")
    cluster = np.unique(ids, return_inverse=True)[1]
    net, size = np.bincount(cluster, won), np.bincount(cluster)
    # Clusters alike in net and size are drawn together: the same bootstrap, by one multinomial.
    kinds, times = np.unique(np.stack([net, size]), axis=1, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(net.size, times / net.size, size=replicates)
    resampled = (drawn @ kinds[0]) / (drawn @ kinds[1]) / 2
    lower, upper = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Preference(
        preference=float(won.sum() / won.size / 2),
        lower=float(lower),
        upper=float(upper),
        p_value=sign_test(int(np.sum(net > 0)), int(np.sum(net < 0))),
        wins=int(np.sum(won == 1)),
        losses=int(np.sum(won == -1)),
        ties=int(np.sum(won == 0)),
    )


def sign_test(wins: int, losses: int) -> float:
    """Return the exact two-sided p-value of equally likely wins and losses; ties are left out."""
    if wins + losses == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5)))
