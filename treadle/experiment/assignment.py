"""`Assigner`: which variant a unit gets, and why not; the same answer one at a time, over arrays, and in SQL.

A unit passes gates from the outside in (hold-out of each domain, buckets of each layer down to the experiment's), then
must fulfil the experiment's conditions; then a second hash, with a salt of the experiment's own, draws one of 10,000
slots, which belong to variants. So bucket and variant are independent: more traffic adds units and changes no variant,
other weights change the fewest variants, and the next experiment in the same buckets splits the same units
independently of this one.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from treadle.core.errors import ConfigError, DataError
from treadle.experiment.conditions import Condition
from treadle.experiment.gates import Gate, Reason, Rival, gates_on
from treadle.experiment.hashing import (
    BLOCK,
    GOLDEN,
    MASK,
    MIX1,
    MIX2,
    Strings,
    Unit,
    Words,
    as_units,
    mix,
    modulo,
    unit_hash,
)
from treadle.experiment.hashing_sql import UnitKind, bucket_sql, let, literal, quote
from treadle.experiment.layers import Allocation, Domain, Layer, Range
from treadle.experiment.split import SLOTS

Names = Mapping[Gate | None, str]  # how SQL calls the bucket of each gate, and under None the slot


class Assigned(NamedTuple):
    """One unit's assignment: the variant's name or None, the reason, and its bucket in the experiment's layer."""

    variant: str | None
    reason: Reason
    bucket: int


class Assignments(NamedTuple):
    """Many units' assignments. `variant` int8[n] indexes the split's variants, -1 for none.

    `reason` uint8[n] holds a `Reason` each, `bucket` uint32[n] the bucket in the experiment's layer.
    """

    variant: NDArray[np.int8]
    reason: NDArray[np.uint8]
    bucket: NDArray[np.uint32]

    def funnel(self) -> dict[str, int]:
        """How many units each reason has; they sum to all."""
        counts = np.bincount(self.reason, minlength=len(Reason)).tolist()
        return {reason.name.lower(): count for reason, count in zip(Reason, counts, strict=True) if count}


@dataclass(frozen=True)
class Assigner:
    """Assigns units to the variants of one experiment: see `assigner` for how to make one."""

    experiment: Allocation
    gates: tuple[Gate, ...]  # the last is the experiment's layer
    rivals: tuple[Rival, ...]
    variant_salt: int

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of the variants."""
        return self.experiment.split.variants

    # ---- one at a time ----

    def assign_one(self, unit: Unit, attributes: Mapping[str, Any] | None = None, *, eligible: bool = True) -> Assigned:
        """The assignment of one unit.

        Args:
            unit: integer or string id.
            attributes: what the conditions ask for, column to value.
            eligible: whether the unit is in the audience, when that is known elsewhere.

        Raises:
            DTypeError, DataError: no id. ConfigError: an attribute a condition needs is missing.
        """
        drawn = [unit_hash(gate.salt, unit) % gate.buckets for gate in self.gates]
        if unit in self.experiment.forced:
            return Assigned(self.experiment.forced[unit], Reason.FORCED, drawn[-1])
        reason = self._reason(unit, drawn, attributes or {}, eligible=eligible)
        if reason:
            return Assigned(None, reason, drawn[-1])
        slot = unit_hash(self.variant_salt, unit) % SLOTS
        return Assigned(self.variants[self._slots[slot]], reason, drawn[-1])

    @cached_property
    def variant_of(self) -> Callable[[Unit], str | None]:
        """A function from a unit to its variant's name, or None.

        `assign_one` without the reason, about a microsecond a call for integers.

        Raises (when made):
            ConfigError: the experiment has conditions, which need attributes: call `assign_one`.
        """
        if self.experiment.conditions or self.rivals:
            raise ConfigError(
                f"variant_of: experiment {self.experiment.experiment!r} depends on attributes ({self._asked()}); call "
                "assign_one with them."
            )
        gates = [
            (gate.salt + GOLDEN, gate.buckets, table)
            for gate, table in zip(self.gates, self._tables, strict=True)
            if not gate.open
        ]
        last, slots, names = self.variant_salt + GOLDEN, self._slots, self.variants
        special = set(self.experiment.forced)

        def variant_of(unit: Unit) -> str | None:
            if (
                type(unit) is not int
                or not -0x8000000000000000 <= unit <= MASK
                or unit in special
                or self.experiment.allow is not None
            ):
                return self.assign_one(unit).variant
            for add, buckets, table in gates:  # splitmix64, written out: a call costs as much as the hash
                z = unit + add & MASK
                z = (z ^ z >> 30) * MIX1 & MASK
                z = (z ^ z >> 27) * MIX2 & MASK
                if table[(z ^ z >> 31) % buckets]:
                    return None
            z = unit + last & MASK
            z = (z ^ z >> 30) * MIX1 & MASK
            z = (z ^ z >> 27) * MIX2 & MASK
            return names[slots[(z ^ z >> 31) % SLOTS]]

        return variant_of

    def _reason(self, unit: Unit, drawn: list[int], attributes: Mapping[str, Any], *, eligible: bool) -> Reason:
        for at, table in zip(drawn, self._tables, strict=True):
            if table[at]:
                return Reason(table[at])
        for rival in self.rivals:
            if any(start <= drawn[rival.gate] < stop for start, stop in rival.ranges) and all(
                c.holds(attributes) for c in rival.conditions
            ):
                return Reason.ELSEWHERE
        allowed = self.experiment.allow is None or unit in self.experiment.allow
        fine = eligible and allowed and all(c.holds(attributes) for c in self.experiment.conditions)
        return Reason.ASSIGNED if fine else Reason.CONDITION

    @cached_property
    def _tables(self) -> tuple[bytes, ...]:
        return tuple(gate.table.tobytes() for gate in self.gates)

    @cached_property
    def _slots(self) -> bytes:
        return self.experiment.split.table.tobytes()

    def _asked(self) -> str:
        return ", ".join(
            str(c)
            for conditions in (self.experiment.conditions, *(r.conditions for r in self.rivals))
            for c in conditions
        )

    # ---- over arrays ----

    def assign(
        self, units: Any, attributes: Mapping[str, Any] | None = None, *, eligible: NDArray[np.bool_] | None = None
    ) -> Assignments:
        """The assignments of many units, in order; a unit that stands twice gets the same twice.

        Args:
            units: ids, as `hashing.as_units` takes them.
            attributes: what the conditions ask for, column to array.
            eligible: bool[n], whether each unit is in the audience, when that is known elsewhere.

        Raises:
            DTypeError, DataError: missing or mixed ids (with rows). ConfigError: an attribute is missing or has
                another length.
        """
        ids, given = as_units(units), attributes or {}
        size = len(ids)
        fine = self._fine(ids, given, eligible, size)
        taken = [(rival, _all_hold(rival.conditions, given, size)) for rival in self.rivals]
        gates = [(i, self.gates[i], self.gates[i].table) for i in sorted({*self._asked_gates(), len(self.gates) - 1})]
        drawn = [_Drawn(ids, gate.salt, gate.buckets) for _, gate, _ in gates]
        slot, slots = _Drawn(ids, self.variant_salt, SLOTS), self.experiment.split.table
        out = Assignments(np.empty(size, np.int8), np.zeros(size, np.uint8), np.empty(size, np.uint32))
        for at in range(0, size, BLOCK):
            part = slice(at, min(at + BLOCK, size))
            reason, lost = out.reason[part], None
            for (i, gate, table), draw in zip(gates, drawn, strict=True):
                buckets = draw(part)
                if not gate.open:
                    found = table.take(buckets)
                    np.copyto(reason, found, where=reason == Reason.ASSIGNED)
                for rival, mask in taken:
                    if rival.gate == i:
                        inside = _inside(buckets, rival.ranges) & mask[part]
                        lost = inside if lost is None else lost | inside
                if gate is self.gates[-1]:
                    out.bucket[part] = buckets
            if lost is not None:
                reason[lost & (reason == Reason.ASSIGNED)] = Reason.ELSEWHERE
            if fine is not None:
                reason[~fine[part] & (reason == Reason.ASSIGNED)] = Reason.CONDITION
            variant = slots.take(slot(part))
            variant[reason != Reason.ASSIGNED] = -1
            out.variant[part] = variant
        self._force(ids, out)
        return out

    def _fine(
        self, ids: "Words | Strings", attributes: Mapping[str, Any], eligible: NDArray[np.bool_] | None, size: int
    ) -> NDArray[np.bool_] | None:
        masks = [condition.mask(attributes, size) for condition in self.experiment.conditions]
        if self.experiment.allow is not None:
            masks.append(_member(ids, self.experiment.allow))
        if eligible is not None:
            given = np.asarray(eligible)
            if given.shape != (size,) or given.dtype != np.bool_:
                raise DataError(
                    f"assign: `eligible` has shape {given.shape} and dtype {given.dtype}; it is one boolean for each "
                    f"of {size:,} units."
                )
            masks.append(given)
        return np.logical_and.reduce(masks) if masks else None

    def _force(self, ids: "Words | Strings", out: Assignments) -> None:
        for unit, name in self.experiment.forced.items():
            rows = _member(ids, frozenset([unit]))
            out.variant[rows] = self.variants.index(name)
            out.reason[rows] = Reason.FORCED

    # ---- in SQL ----

    def bucket_sql(self, unit: str, kind: UnitKind) -> str:
        """SQL for the bucket in the experiment's layer; NULL without an id."""
        return bucket_sql(self.gates[-1].salt, unit, self.gates[-1].buckets, kind)

    def reason_sql(self, unit: str, kind: UnitKind, *, eligible: str | None = None) -> str:
        """SQL for the `Reason`'s number. `unit` is an expression, `eligible` a boolean one."""
        hashes = self._hashes_sql(unit, kind)
        names = {key: f"_h[{n}]" for n, key in enumerate(hashes, 1)}
        return let("_h", f"[{', '.join(hashes.values())}]", self._reason_sql(unit, kind, eligible, names))

    def variant_sql(self, unit: str, kind: UnitKind, *, eligible: str | None = None) -> str:
        """SQL for the variant's index, -1 for none."""
        hashes = self._hashes_sql(unit, kind)
        names = {key: f"_h[{n}]" for n, key in enumerate(hashes, 1)}
        return let("_h", f"[{', '.join(hashes.values())}]", self._variant_sql(unit, kind, eligible, names))

    def select_sql(
        self, source: str, unit: str, kind: UnitKind, *, eligible: str | None = None, prefix: str = ""
    ) -> str:
        """SQL for the rows of `source` with the columns `bucket`, `reason` and `variant` added.

        The fastest form: nested queries name each hash once.

        Args:
            source: a table, or a query in parentheses.
            unit: the column of ids.
            kind: what `hashing_sql.kind_of` says of its type.
            eligible: a boolean expression, whether the unit is in the audience.
            prefix: stands before the names of the new columns; needed where the source has such columns already.
        """
        column = quote(unit)
        hashes = self._hashes_sql(column, kind)
        names = {key: f"_h{n}" for n, key in enumerate(hashes)}
        hashed = ", ".join(f"{sql} AS {names[key]}" for key, sql in hashes.items())
        added = {
            "bucket": f"{names[self.gates[-1]]}::UINTEGER",
            "reason": self._reason_sql(column, kind, eligible, names),
            "variant": self._variant_sql(column, kind, eligible, names),
        }
        columns = ", ".join(f"{sql} AS {quote(prefix + name)}" for name, sql in added.items())
        return f"SELECT * EXCLUDE ({', '.join(names.values())}), {columns} FROM (SELECT *, {hashed} FROM {source})"

    def _asked_gates(self) -> list[int]:
        return [
            i for i, gate in enumerate(self.gates) if not gate.open or any(rival.gate == i for rival in self.rivals)
        ]

    def _hashes_sql(self, unit: str, kind: UnitKind) -> dict[Gate | None, str]:
        """The buckets of the gates that are asked, and under None the slot.

        They stand outside every CASE: inside one, DuckDB does not look for common subexpressions and would hash a unit
        again for every use of it.
        """
        gates = [self.gates[i] for i in sorted({*self._asked_gates(), len(self.gates) - 1})]
        hashes: dict[Gate | None, str] = {gate: bucket_sql(gate.salt, unit, gate.buckets, kind) for gate in gates}
        return {**hashes, None: bucket_sql(self.variant_salt, unit, SLOTS, kind)}

    def _reason_sql(self, unit: str, kind: UnitKind, eligible: str | None, names: Names) -> str:
        cases = [f"WHEN ({unit}) IS NULL THEN {Reason.MISSING:d}"]
        forced = _literals(self.experiment.forced, kind)
        if forced:
            cases.append(f"WHEN ({unit}) IN ({forced}) THEN {Reason.FORCED:d}")
        for gate in self.gates:
            if not gate.open:
                reason = _steps([(start, int(code)) for start, _, code in gate.segments], names[gate])
                cases.append(f"WHEN {reason} <> 0 THEN {reason}")
        cases += [f"WHEN {taken} THEN {Reason.ELSEWHERE:d}" for taken in self._taken_sql(names)]
        tests = self._tests_sql(unit, kind, eligible)
        if tests:
            cases.append(f"WHEN NOT ({' AND '.join(tests)}) THEN {Reason.CONDITION:d}")
        return f"(CASE {' '.join(cases)} ELSE {Reason.ASSIGNED:d} END)::UTINYINT"

    def _variant_sql(self, unit: str, kind: UnitKind, eligible: str | None, names: Names) -> str:
        passes = [f"({unit}) IS NOT NULL"]
        for gate in self.gates:
            if not gate.open:
                ranges = [(start, stop) for start, stop, reason in gate.segments if reason is Reason.ASSIGNED]
                passes.append(_inside_sql(names[gate], tuple(ranges)))
        passes += [f"NOT {taken}" for taken in self._taken_sql(names)]
        passes += self._tests_sql(unit, kind, eligible)
        points = [(start, variant) for start, _, variant in self.experiment.split.segments]
        drawn = _steps(points, names[None])
        forced = ""
        for i, name in enumerate(self.variants):
            units = _literals((u for u, v in self.experiment.forced.items() if v == name), kind)
            forced += f"WHEN ({unit}) IN ({units}) THEN {i} " if units else ""
        return f"(CASE {forced}WHEN {' AND '.join(passes)} THEN {drawn} ELSE -1 END)::TINYINT"

    def _taken_sql(self, names: Names) -> list[str]:
        """For each rival, whether it takes the unit."""
        taken: list[str] = []
        for rival in self.rivals:
            inside = _inside_sql(names[self.gates[rival.gate]], rival.ranges)
            taken.append(f"({inside} AND {' AND '.join(c.sql() for c in rival.conditions)})")
        return taken

    def _tests_sql(self, unit: str, kind: UnitKind, eligible: str | None) -> list[str]:
        """The experiment's own tests of a unit: its conditions, its allow list, and what the caller says."""
        tests = [condition.sql() for condition in self.experiment.conditions]
        if self.experiment.allow is not None:
            allowed = _literals(self.experiment.allow, kind)
            tests.append(f"({unit}) IN ({allowed})" if allowed else "FALSE")
        if eligible is not None:
            tests.append(f"(({eligible}) IS TRUE)")
        return tests


def assigner(domain: Domain | Layer, experiment: str) -> Assigner:
    """The assigner of one experiment of a tree of domains and layers.

    Raises:
        ConfigError: there is no such experiment.
    """
    root = Domain(f"domain of {domain.key}", (domain,)) if isinstance(domain, Layer) else domain
    path = root.path(experiment)
    gates, rivals = gates_on(path)
    _, layer, entry = path[-1]
    assert isinstance(entry, Allocation)
    return Assigner(entry, gates, rivals, entry.variant_salt(layer))


def one_layer(experiment: Allocation, *, layer: str, version: int = 1, holdout: float = 0.0) -> Assigner:
    """The assigner of an experiment that has a layer to itself."""
    if experiment.traffic == 0:
        raise ConfigError(
            f"experiment {experiment.experiment!r}: the traffic is 0, so that nobody would be assigned; give a share "
            "above 0."
        )
    return assigner(Layer(layer, version, holdout=holdout, entries=(experiment,)), experiment.experiment)


def check_units(units: Any) -> int:
    """The number of units, all present and all different.

    Raises:
        DataError: units that stand more than once (how many, which), or missing ones.
    """
    values = units.tolist() if isinstance(units, np.ndarray) else list(units)
    ids = as_units(units)
    if isinstance(ids, Strings):
        twice = [value for value, count in Counter(values).items() if count > 1]
    else:
        distinct, first, counts = np.unique(ids, return_index=True, return_counts=True)
        twice = [values[i] for i in first[counts > 1]] if len(distinct) < len(ids) else []
    if twice:
        raise DataError(
            f"units: {len(twice):,} ids stand more than once among {len(values):,} rows, for instance "
            f"{twice[:5]}; the table needs one row a "
            "unit; aggregate it to units first."
        )
    return len(values)


class _Drawn:
    """The buckets of units under one salt, a block at a time; the array is used again by the next block."""

    def __init__(self, ids: "Words | Strings", salt: int, buckets: int) -> None:
        self._ids, self._buckets, self._add = ids, buckets, np.uint64(salt + GOLDEN & MASK)
        self._hashes = ids.xxh64(salt) if isinstance(ids, Strings) else None
        self._z, self._scratch = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.uint64)

    def __call__(self, part: slice) -> NDArray[np.int64]:
        z, scratch = self._z[: part.stop - part.start], self._scratch[: part.stop - part.start]
        if isinstance(self._ids, Strings):
            assert self._hashes is not None
            z[:] = self._hashes[part]
        else:
            np.add(self._ids[part], self._add, out=z)
            mix(z, scratch)
        modulo(z, self._buckets, scratch)
        return z.view(np.int64)


def _inside(buckets: NDArray[np.int64], ranges: tuple[Range, ...]) -> NDArray[np.bool_]:
    return np.logical_or.reduce([(buckets >= start) & (buckets < stop) for start, stop in ranges])


def _all_hold(conditions: tuple[Condition, ...], attributes: Mapping[str, Any], size: int) -> NDArray[np.bool_]:
    return np.logical_and.reduce([condition.mask(attributes, size) for condition in conditions])


def _member(ids: "Words | Strings", units: frozenset[Unit]) -> NDArray[np.bool_]:
    if isinstance(ids, Strings):
        return np.fromiter((text in units for text in ids.texts), np.bool_, len(ids))
    return np.isin(ids, np.array([unit & MASK for unit in units if isinstance(unit, int)], np.uint64))


def _literals(units: Any, kind: UnitKind) -> str:
    return ", ".join(literal(unit) for unit in units if isinstance(unit, int) == (kind == "integer"))


def _inside_sql(bucket: str, ranges: tuple[Range, ...]) -> str:
    tests = [f"{bucket} BETWEEN {start} AND {stop - 1}" for start, stop in ranges]
    return f"({' OR '.join(tests) or 'FALSE'})"


def _steps(points: list[tuple[int, int]], x: str) -> str:
    """The step function that takes each value from its start on: v0 + (x >= start1) * (v1 - v0) + ..."""
    terms = [str(points[0][1])]
    terms += [
        f"({x} >= {start}::UBIGINT)::TINYINT * ({value - before})" for (_, before), (start, value) in pairwise(points)
    ]
    return f"({' + '.join(terms)})"
