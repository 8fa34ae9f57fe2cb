"""The four planted faults are caught by the harness, and the sound ways beside them are not."""

import pytest

from treadle.experiment.planted import PLANTED, peeking_daily, sessions_for_units


@pytest.mark.parametrize("made", [sessions_for_units, peeking_daily])
def test_faults_of_analysis_are_caught_in_few_replicates(made):
    found = made(1000, seed=1)
    assert found.caught
    assert found.faulty.false_positives > 0.075
    assert found.sound.false_positives < 0.075


def test_faults_of_assignment_are_caught_in_few_replicates():
    found = PLANTED["id mod 1000 in two layers"](200, seed=1)
    assert found.caught
    assert found.faulty.false_positives > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_planted_fault_is_caught(name: str, seed: int):
    found = PLANTED[name](seed=seed)
    assert found.caught, (str(found.faulty), str(found.sound))
    assert found.faulty.false_positives_ci_lower > 0.06
