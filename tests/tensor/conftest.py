"""The tests of tensors run on the oracle, so that they say what the functions mean and not how kernels compute it."""

from collections.abc import Iterator

import pytest

from tests.reference import execute
from treadle.tensor import set_executor


@pytest.fixture(autouse=True)
def oracle() -> Iterator[None]:
    before = set_executor(execute)
    yield
    set_executor(before)
