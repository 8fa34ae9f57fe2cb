"""Tests of tensors run on kernels, as users do; those that draw many random programs ask for the oracle instead."""

from collections.abc import Iterator

import pytest

from tests.reference import execute
from treadle.tensor import set_executor


@pytest.fixture
def oracle() -> Iterator[None]:
    """Compute with the NumPy meanings of the ops: nothing is compiled."""
    before = set_executor(execute)
    yield
    set_executor(before)
