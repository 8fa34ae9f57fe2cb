"""`Condition`: one test of one attribute of a unit, with the same answer from a dictionary, from arrays and in SQL.

A missing value (None, NaN, NULL) fulfils no condition.
"""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from treadle.core.errors import ConfigError
from treadle.experiment.hashing_sql import literal, quote

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SQL = {"==": "=", "!=": "<>"}

Scalar = str | int | float | bool


@dataclass(frozen=True)
class Condition:
    """A test `column op value`, for instance `Condition("country", "in", ("JP", "KR"))`.

    Operators: == != < <= > >= in, not in.
    """

    column: str
    op: str
    value: Scalar | tuple[Scalar, ...]

    def __post_init__(self) -> None:
        if self.op not in {*_COMPARE, "in", "not in"}:
            raise ConfigError(
                f"condition on {self.column!r}: there is no operator {self.op!r}; use one of "
                f"{[*_COMPARE, 'in', 'not in']}."
            )
        if isinstance(self.value, tuple) != (self.op in {"in", "not in"}):
            raise ConfigError(
                f"condition on {self.column!r}: `{self.op} {self.value!r}`; `in` and `not in` take a tuple, the others "
                "one value."
            )
        if self.value == ():
            raise ConfigError(
                f"condition on {self.column!r}: `{self.op} ()` has nothing to compare with; give at least one value."
            )

    def __str__(self) -> str:
        return f"{self.column} {self.op} {self.value!r}"

    def holds(self, attributes: Mapping[str, Any]) -> bool:
        """Whether one unit's attributes fulfil it."""
        value = self._get(attributes)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return False
        return bool(self._compare(value))

    def mask(self, attributes: Mapping[str, Any], size: int) -> NDArray[np.bool_]:
        """Which of `size` units fulfil it: bool[size]; `attributes` maps columns to arrays."""
        column = np.asarray(self._get(attributes))
        if column.shape != (size,):
            raise ConfigError(
                f"condition `{self}`: the attribute {self.column!r} has shape {column.shape}; there are {size:,} "
                "units; give one value each."
            )
        if column.dtype.kind == "O":
            return np.fromiter((self.holds({self.column: value}) for value in column.tolist()), np.bool_, size)
        present = ~np.isnan(column) if column.dtype.kind == "f" else np.ones(size, np.bool_)
        if isinstance(self.value, tuple):
            inside = np.isin(column, np.array(self.value))
            return (inside if self.op == "in" else ~inside) & present
        return np.asarray(_COMPARE[self.op](column, self.value), np.bool_) & present

    def sql(self) -> str:
        """The condition as SQL, never NULL."""
        column = quote(self.column)
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        right = f"({', '.join(map(literal, values))})" if isinstance(self.value, tuple) else literal(self.value)
        test = f"{column} {_SQL.get(self.op, self.op.upper())} {right}"
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            test += f" AND NOT isnan({column}::DOUBLE)"  # which DuckDB orders above all numbers
        return f"(({test}) IS TRUE)"

    def _get(self, attributes: Mapping[str, Any]) -> Any:
        if self.column not in attributes:
            raise ConfigError(
                f"condition `{self}`: the attribute {self.column!r} was not given; there are "
                f"{sorted(attributes) or 'none'}; pass it in "
                "`attributes`."
            )
        return attributes[self.column]

    def _compare(self, value: Any) -> bool:
        try:
            if isinstance(self.value, tuple):
                return (value in self.value) == (self.op == "in")
            return _COMPARE[self.op](value, self.value)
        except TypeError:
            raise ConfigError(
                f"condition `{self}`: cannot compare the attribute's value {value!r} ({type(value).__name__}) with "
                f"{self.value!r}."
            ) from None
