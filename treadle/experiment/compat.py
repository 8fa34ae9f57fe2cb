"""Hashes of other systems, so that an experiment begun there can be analysed, continued or checked here.

PlanOut (Bakshy, Eckles and Bernstein 2014): the first 15 hex digits of the SHA-1 of "salt.name.unit". GrowthBook, hash
versions 1 and 2: FNV-1a 32; version 2 hashes the decimal text of the first hash once more, because a single FNV-1a
leaves sequential ids correlated. The bytes are UTF-16 code units, as in its JavaScript SDK (the same as bytes for
ASCII).
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from treadle.core.errors import ConfigError
from treadle.experiment.hashing_sql import literal

_PLANOUT_SCALE = 0xFFFFFFFFFFFFFFF  # fifteen hex digits
_FNV_OFFSET, _FNV_PRIME = 0x811C9DC5, 0x01000193


def planout_hash(unit: int | str | Sequence[int | str], salt: str, name: str, *, separator: str = ".") -> int:
    """PlanOut's integer for a random operator.

    `salt` of the experiment, `name` of the parameter (its salt), one unit or several.
    """
    units = [unit] if isinstance(unit, int | str) else unit
    text = f"{salt}.{name}{separator}{'.'.join(map(str, units))}"
    return int(hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:15], 16)


def planout_uniform(unit: int | str | Sequence[int | str], salt: str, name: str) -> float:
    """PlanOut's number in [0, 1]."""
    return planout_hash(unit, salt, name) / _PLANOUT_SCALE


def planout_choice(unit: int | str | Sequence[int | str], salt: str, name: str, weights: Sequence[float]) -> int:
    """The index PlanOut's WeightedChoice takes."""
    stop, total = planout_uniform(unit, salt, name) * sum(weights), 0.0
    for index, weight in enumerate(weights):
        total += weight
        if stop <= total:
            return index
    return len(weights) - 1


def planout_hash_sql(unit: str, salt: str, name: str) -> str:
    """SQL for `planout_hash` of one unit (DuckDB), a UBIGINT."""
    return f"('0x' || substr(sha1({literal(f'{salt}.{name}.')} || ({unit})::VARCHAR), 1, 15))::UBIGINT"


def fnv1a32(text: str) -> int:
    """The 32-bit FNV-1a of the text's UTF-16 code units."""
    h = _FNV_OFFSET
    for code in text.encode() if text.isascii() else np.frombuffer(text.encode("utf-16-le"), "<u2").tolist():
        h = (h ^ code) * _FNV_PRIME & 0xFFFFFFFF
    return h


def growthbook_hash(seed: str, unit: int | str, *, version: int = 2) -> float:
    """GrowthBook's number in [0, 1): thousandths (version 1) or ten-thousandths (version 2).

    Raises:
        ConfigError: `version` is neither 1 nor 2.
    """
    _check_version(version)
    if version == 1:
        return fnv1a32(f"{unit}{seed}") % 1000 / 1000
    return fnv1a32(str(fnv1a32(f"{seed}{unit}"))) % 10000 / 10000


def growthbook_hashes(
    seed: str, units: Sequence[int | str] | NDArray[np.generic], *, version: int = 2
) -> NDArray[np.float64]:
    """`growthbook_hash` of many units: float64[n]."""
    _check_version(version)
    texts = [str(unit) for unit in (units.tolist() if isinstance(units, np.ndarray) else units)]
    if version == 1:
        return fnv1a32s([text + seed for text in texts]) % 1000 / 1000
    first = fnv1a32s([seed + text for text in texts])
    return fnv1a32s(first.astype(str).tolist()) % 10000 / 10000


def fnv1a32s(texts: Sequence[str]) -> NDArray[np.uint32]:
    """`fnv1a32` of many texts: uint32[n]. One step a position over all texts that are that long."""
    if all(map(str.isascii, texts)):
        codes = np.frombuffer("".join(texts).encode(), np.uint8)
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    else:
        encoded = [text.encode("utf-16-le") for text in texts]
        codes = np.frombuffer(b"".join(encoded), "<u2")
        lengths = np.fromiter(map(len, encoded), np.int64, len(texts)) // 2
    order = np.argsort(-lengths, kind="stable")
    starts = (np.cumsum(lengths) - lengths)[order]
    lengths = lengths[order]
    h = np.full(len(texts), _FNV_OFFSET, np.uint32)
    for at in range(int(lengths[0]) if len(texts) else 0):
        live = int(np.searchsorted(-lengths, -at, side="left"))  # the texts longer than `at` come first
        h[:live] = (h[:live] ^ codes[starts[:live] + at]) * np.uint32(_FNV_PRIME)
    out = np.empty_like(h)
    out[order] = h
    return out


def growthbook_ranges(weights: Sequence[float], *, coverage: float = 1.0) -> list[tuple[float, float]]:
    """GrowthBook's range of [0, 1) for each variant.

    They start at the cumulated weights and are `coverage` of their width.
    """
    starts = np.cumsum([0.0, *weights[:-1]]).tolist()
    return [(start, start + coverage * weight) for start, weight in zip(starts, weights, strict=True)]


def growthbook_choice(number: float, ranges: Sequence[tuple[float, float]]) -> int:
    """The index of the range that holds `number`, or -1."""
    return next((i for i, (start, stop) in enumerate(ranges) if start <= number < stop), -1)


def growthbook_hash_sql(unit: str, seed: str) -> str:
    """SQL for `growthbook_hash` version 2 (DuckDB), a DOUBLE."""
    first = _fnv1a32_sql(f"{literal(seed)} || ({unit})::VARCHAR")
    return f"{_fnv1a32_sql(f'({first})::VARCHAR')} % 10000 / 10000.0::DOUBLE"


def _fnv1a32_sql(text: str) -> str:
    # A character past U+FFFF is two UTF-16 code units.
    units = (
        "flatten(list_transform(list_filter(string_split({text}, ''), lambda c: c <> ''), lambda c: CASE WHEN "
        "unicode(c) > 65535 "
        "THEN [55296 + ((unicode(c) - 65536) >> 10), 56320 + ((unicode(c) - 65536) & 1023)] ELSE [unicode(c)] "
        "END))"
    )
    step = f"(xor(h, c::UBIGINT) * {_FNV_PRIME}::UBIGINT) & 4294967295::UBIGINT"
    return f"list_reduce({units.replace('{text}', text)}, lambda h, c: {step}, {_FNV_OFFSET}::UBIGINT)"


def _check_version(version: int) -> None:
    if version not in (1, 2):
        raise ConfigError(
            f"growthbook_hash: there is no hash version {version}; GrowthBook has 1 and 2; give the one of the "
            "experiment."
        )
