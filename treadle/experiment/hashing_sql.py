"""The hashes of `hashing.py` as DuckDB SQL expressions: text in, text out, the same bits.

DuckDB checks 64-bit arithmetic for overflow and has no wrapping multiplication. The cheapest way found (ns a row and
core, DuckDB 2.0): widen to UHUGEINT, multiply, mask: 2.5; four products of 32-bit halves: 16. A splitmix64 costs 18
(three times that inside a CASE, where DuckDB does not look for common subexpressions: hash outside of it), so 100 M
rows on two cores take about a second.

Strings: the bytes are read from `hex`, reversed, so that eight of them parse as one little-endian word with its
nibbles swapped. A value used twice is bound by a one-element `list_transform` (12 ns), which keeps the text short
where DuckDB's own elimination of common subexpressions cannot look. 2 to 4 us a row and core (10 to 36 characters):
for large tables hash the distinct ids once and join. Needs DuckDB >= 1.3 (the `lambda` syntax).
"""

from typing import Literal

from treadle.core.errors import ConfigError
from treadle.experiment.hashing import GOLDEN, MASK, MIX1, MIX2, PRIME1, PRIME2, PRIME3, PRIME4, PRIME5

UnitKind = Literal["integer", "string"]

_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
_NIBBLES = "1085102592571150095::UBIGINT"  # 0x0F0F0F0F0F0F0F0F


def kind_of(duckdb_type: str) -> UnitKind:
    """Which hash a column of this DuckDB type takes: "integer" or "string".

    Raises:
        ConfigError: a type that is no id (floating point, decimal, date, ...), for which a cast would choose silently.
    """
    name = duckdb_type.upper()
    if name in _INTEGERS:
        return "integer"
    if name.startswith("VARCHAR") or name in {"TEXT", "STRING"}:
        return "string"
    raise ConfigError(
        f"unit: a column of type {duckdb_type} cannot hold unit ids; allowed are integers of at most 64 "
        "bits and VARCHAR; cast it in "
        "the source query, for instance `id::BIGINT` or `id::VARCHAR`."
    )


def quote(name: str) -> str:
    """A column or table name as SQL: `user id` -> "user id"."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """A Python string, number, boolean or None as a SQL literal."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float):
        return repr(value)
    return "'" + str(value).replace("'", "''") + "'"


def let(name: str, value: str, body: str) -> str:
    """SQL for `body` with `name` standing for `value`, which is then worked out once."""
    return f"list_transform([{value}], lambda {name}: {body})[1]"


def unit_hash_sql(salt: int, unit: str, kind: UnitKind) -> str:
    """SQL for `hashing.unit_hash(salt, unit)`, a UBIGINT.

    NULL where `unit` is. `unit` is an expression, `kind` what `kind_of` says of its type.
    """
    return splitmix64_sql(unit, salt) if kind == "integer" else xxh64_sql(unit, salt)


def bucket_sql(salt: int, unit: str, buckets: int, kind: UnitKind) -> str:
    """SQL for `hashing.buckets_of`: H(salt, unit) mod `buckets`, a UBIGINT."""
    return f"({unit_hash_sql(salt, unit, kind)} % {_u64(buckets)})"


def splitmix64_sql(unit: str, salt: int = 0) -> str:
    """SQL for `splitmix64(unit + salt)`: an integer expression in, a UBIGINT out."""
    # The mask of a negative sum is its two's complement: -1 is 2^64 - 1.
    x = f"((({unit})::HUGEINT + {salt + GOLDEN & MASK}::HUGEINT) & {MASK}::HUGEINT)::UBIGINT"
    x = _times(_fold(x, 30), MIX1)
    x = _times(_fold(x, 27), MIX2)
    return _fold(x, 31)


def xxh64_sql(text: str, seed: int = 0) -> str:
    """SQL for `xxh64(text, seed)`: a VARCHAR expression in, a UBIGINT out."""
    size = "strlen(s)"
    short = f"{_u64(seed + PRIME5)}"
    start = _plus(f"CASE WHEN {size} >= 32 THEN {_stripes(seed)} ELSE {short} END", f"{size}::UBIGINT")
    words = f"list_transform(range({size} // 32 * 4, {size} // 8), lambda i: {_word('i * 8', 8)})"
    after8 = f"list_reduce({words}, lambda h, w: {_step8('h', 'w')}, {start})"
    after4 = let("h", after8, f"CASE WHEN {size} % 8 >= 4 THEN {_step4('h', _word(f'{size} // 8 * 8', 4))} ELSE h END")
    octets = f"list_transform(range({size} // 4 * 4, {size}), lambda i: {_word('i', 1)})"
    after1 = f"list_reduce({octets}, lambda h, w: {_step1('h', 'w')}, {after4})"
    x = _times(let("a", after1, "xor(a, a >> 33)"), PRIME2)
    x = _times(let("a", x, "xor(a, a >> 29)"), PRIME3)
    x = let("a", x, "xor(a, a >> 32)")
    return let("s", f"({text})::VARCHAR", let("r", "reverse(hex(s))", x))


def _stripes(seed: int) -> str:
    """The merged accumulators over the whole 32-byte stripes of s."""
    lanes: list[str] = []
    for lane, first in enumerate((seed + PRIME1 + PRIME2, seed + PRIME2, seed, seed - PRIME1)):
        words = f"list_transform(range(strlen(s) // 32), lambda i: {_word(f'i * 32 + {8 * lane}', 8)})"
        lanes.append(f"list_reduce({words}, lambda v, w: {_round('v', 'w')}, {_u64(first)})")
    h = _rotate("v[1]", 1)
    for lane, bits in ((2, 7), (3, 12), (4, 18)):
        h = _plus(h, _rotate(f"v[{lane}]", bits))
    for lane in (1, 2, 3, 4):
        k = _times(let("k", _times(f"v[{lane}]", PRIME2), _rotate("k", 31)), PRIME1)
        h = _plus(_times(f"xor({h}, {k})", PRIME1), _u64(PRIME4))
    return f"list_transform([[{', '.join(lanes)}]], lambda v: {h})[1]"


def _word(at: str, size: int) -> str:
    """The little-endian word of `size` bytes that starts at byte `at` of s, whose hex digits, reversed, are r."""
    digits = f"('0x' || substr(r, 2 * (strlen(s) - ({at}) - {size}) + 1, {2 * size}))::UBIGINT"
    return let("w", digits, f"((w & {_NIBBLES}) << 4) | ((w >> 4) & {_NIBBLES})")


def _round(lane: str, word: str) -> str:
    return _times(let("k", _plus(lane, _times(word, PRIME2)), _rotate("k", 31)), PRIME1)


def _step8(h: str, word: str) -> str:
    k = _times(let("k", _times(word, PRIME2), _rotate("k", 31)), PRIME1)
    return _plus(_times(let("k", f"xor({h}, {k})", _rotate("k", 27)), PRIME1), _u64(PRIME4))


def _step4(h: str, word: str) -> str:
    return _plus(_times(let("k", f"xor({h}, {_times(word, PRIME1)})", _rotate("k", 23)), PRIME2), _u64(PRIME3))


def _step1(h: str, octet: str) -> str:
    return _times(let("k", f"xor({h}, {_times(octet, PRIME5)})", _rotate("k", 11)), PRIME1)


def _u64(value: int) -> str:
    return f"{value & MASK}::UBIGINT"


def _fold(x: str, bits: int) -> str:
    return f"xor({x}, {x} >> {bits})"


def _times(x: str, factor: int) -> str:
    return f"((({x})::UHUGEINT * {factor}::UHUGEINT) & {MASK}::UHUGEINT)::UBIGINT"


def _plus(x: str, y: str) -> str:
    return f"((({x})::UHUGEINT + ({y})::UHUGEINT) & {MASK}::UHUGEINT)::UBIGINT"


def _rotate(x: str, bits: int) -> str:
    """X rotated left; the high bits are cut before the shift, which would complain of losing them."""
    return f"((({x} & {(1 << 64 - bits) - 1}::UBIGINT) << {bits}) | ({x} >> {64 - bits}))"
