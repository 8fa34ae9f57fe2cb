"""What the tests of the comparison suite share."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Return a loader of the suite's scripts, which stand outside any package."""
    monkeypatch.syspath_prepend(str(BENCH / "peers"))
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module
    for path in [*BENCH.glob("*.py"), *BENCH.glob("peers/*.py")]:
        sys.modules.pop(path.stem, None)
