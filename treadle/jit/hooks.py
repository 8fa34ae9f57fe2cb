"""What a Plan says of itself through layers above this one; `treadle/__init__.py` puts it in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol


class Explained(Protocol):
    """What `Plan.explain()` returns, an `inspect.Explanation`: `print` it, or take it as data."""

    def summary(self) -> str:
        """Return the main figures in a dozen lines."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        ...

    def to_json(self) -> str:
        """Return everything as JSON."""
        ...

    def write_timeline(self, path: str | Path) -> None:
        """Write one measured step, all threads, as a Chrome trace."""
        ...


def _no_explain(plan: Any) -> Explained:
    raise AssertionError("no explain is set: treadle/__init__.py sets jit.Hooks.explain")


class Hooks:
    """What upper layers put in."""

    explain: Callable[[Any], Explained] = _no_explain
