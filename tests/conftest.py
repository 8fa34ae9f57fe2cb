"""What every test relies on: fixed seeds, a repeatable Hypothesis, and the `--update` option for golden texts."""

import random

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# The first example of a shape compiles a kernel, so the time of one example says nothing.
settings.register_profile(
    "treadle", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("treadle")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite the golden texts instead of comparing with them")


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    """Whether golden texts are to be rewritten."""
    return bool(request.config.getoption("--update"))


@pytest.fixture(autouse=True)
def seeds() -> None:
    random.seed(0)
    np.random.seed(0)
