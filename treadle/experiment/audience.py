"""`Audience`: a versioned set of users as a roaring bitmap, with a manifest that says where it came from.

Integer ids are stored as they are (64-bit words); strings as their xxh64 under one fixed salt, so that all audiences
of strings can be combined; two strings with one hash count in `collisions` (expected: n^2 / 2^65, less than one among
five thousand million). `selection.py` makes audiences from rules and from models, `lookalike.py` from embeddings. An
audience never changes: saving another set under its name is its next version.
"""

import array
import datetime as dt
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap64

from treadle.core.errors import ConfigError, DataError
from treadle.experiment.hashing import MASK, Strings, Unit, Words, as_units, buckets_of, salt_of, unit_hash
from treadle.experiment.hashing_sql import UnitKind, quote, unit_hash_sql

STRING_SALT = salt_of("audience")
_HOLDOUT_BUCKETS = 10_000


@dataclass(frozen=True)
class Manifest:
    """What an audience is and where it came from.

    Args:
        name: of the audience; with `version` it identifies it.
        kind: how it was made: ids, rule, top-k, threshold, look-alike, uplift, union, intersection, difference, hold-
            out...
        source: the query, table or file of scores.
        unit: "integer" or "string".
        size: the number of users.
        version: counts from 1; 0 before it is saved.
        created: UTC time, ISO 8601.
        as_of: the last day whose data the selection used: what the leakage check needs.
        model: the hash of the model that scored, see `file_hash`.
        threshold: the lowest score taken.
        parameters: the rest of how it was made.
        parents: the audiences it was made from, "name v2 (hash)".
        rows: the rows it was made from, duplicates included.
        collisions: strings lost because another has their hash.
        hash: SHA-256 of the stored bitmap.
    """

    name: str
    kind: str
    source: str
    unit: UnitKind
    size: int
    version: int = 0
    created: str = ""
    as_of: str | None = None
    model: str | None = None
    threshold: float | None = None
    parameters: dict[str, Any] = field(default_factory=dict[str, Any])
    parents: tuple[str, ...] = ()
    rows: int = 0
    collisions: int = 0
    hash: str = ""


class Overlap(NamedTuple):
    """How audiences overlap.

    `users[i, j]` users are in both; `share[i, j]` of i is in j; `jaccard[i, j]` = both / either (0 where both are
    empty).
    """

    names: tuple[str, ...]
    users: NDArray[np.int64]
    share: NDArray[np.float64]
    jaccard: NDArray[np.float64]


class Leakage(NamedTuple):
    """Whether an audience was chosen by looking at its outcome.

    `days` of the outcome window its data reach into, and that in words.
    """

    found: bool
    days: int | None
    message: str


@dataclass(frozen=True)
class Audience:
    """A set of users. `users` is shared, not copied: do not change it."""

    manifest: Manifest
    users: BitMap64

    @classmethod
    def of(
        cls,
        units: Any,
        *,
        name: str,
        source: str = "ids",
        kind: str = "ids",
        as_of: dt.date | str | None = None,
        **more: Any,
    ) -> "Audience":
        """The audience of these ids; duplicates count once (`rows` keeps their number).

        Args:
            units: integers or strings, see `hashing.as_units`.
            name: of the audience.
            source: where the ids are from.
            kind: how they were chosen.
            as_of: the last day whose data the choice used.
            more: other fields of `Manifest`.

        Raises:
            DataError, DTypeError: missing or mixed ids.
        """
        ids = as_units(units)
        users = bitmap(ids)
        unit: UnitKind = "string" if isinstance(ids, Strings) else "integer"
        collisions = len(set(ids.texts)) - len(users) if isinstance(ids, Strings) else 0
        manifest = Manifest(
            name,
            kind,
            source,
            unit,
            len(users),
            created=_now(),
            as_of=None if as_of is None else str(as_of),
            rows=len(ids),
            collisions=collisions,
            **more,
        )
        made = cls(manifest, users)
        return cls(replace(manifest, hash=made.hash), users)  # now, so that set operations need not wait for it

    def __len__(self) -> int:
        return len(self.users)

    def __contains__(self, unit: Unit) -> bool:
        return self._word(unit) in self.users

    def __and__(self, other: "Audience") -> "Audience":
        return self._combine(other, self.users & other.users, "intersection", "&")

    def __or__(self, other: "Audience") -> "Audience":
        return self._combine(other, self.users | other.users, "union", "|")

    def __sub__(self, other: "Audience") -> "Audience":
        return self._combine(other, self.users - other.users, "difference", "-")

    def __xor__(self, other: "Audience") -> "Audience":
        return self._combine(other, self.users ^ other.users, "symmetric difference", "^")

    def __str__(self) -> str:
        version = f" v{self.manifest.version}" if self.manifest.version else ""
        return f"{self.manifest.name}{version} ({self.hash[:12]})"

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the stored form of the users."""
        return self.manifest.hash or hashlib.sha256(bytes(self.users.serialize())).hexdigest()

    @property
    def words(self) -> Words:
        """The stored 64-bit words in increasing order: uint64[size]. For integers, the ids in two's complement."""
        return np.frombuffer(self.users.to_array(), np.uint64) if self.users else np.empty(0, np.uint64)

    def mask(self, units: Any) -> NDArray[np.bool_]:
        """Which of many units are in it: bool[n]."""
        ids = as_units(units)
        self._check_kind("string" if isinstance(ids, Strings) else "integer", "the units")
        words = ids.xxh64(STRING_SALT) if isinstance(ids, Strings) else ids
        return np.isin(words, self.words)

    def member_sql(self, unit: str, table: str, kind: UnitKind) -> str:
        """SQL for membership, given a table with a UBIGINT column `word` that holds `words`.

        `unit` is an expression.
        """
        self._check_kind(kind, f"the column {unit}")
        word = (
            unit_hash_sql(STRING_SALT, unit, kind)
            if kind == "string"
            else f"(({unit})::HUGEINT & {MASK}::HUGEINT)::UBIGINT"
        )
        return f"({word} IN (SELECT word FROM {quote(table)}))"

    def hold_out(self, share: float, *, key: str = "hold-out") -> tuple["Audience", "Audience"]:
        """The audience without a random part, and that part.

        It is the control group of "was this audience worth addressing at all".

        The part is drawn by hash under a salt of `key`: the same users on every call, independent of every layer.

        Raises:
            ConfigError: a share outside (0, 1).
        """
        if not 0 < share < 1:
            raise ConfigError(f"hold_out: the share is {share}; it lies between 0 and 1, both excluded.")
        words = self.words
        held = buckets_of(salt_of("audience-holdout", key), words, _HOLDOUT_BUCKETS) < round(share * _HOLDOUT_BUCKETS)
        parts: list[Audience] = []
        for suffix, chosen, part in (("addressed", ~held, 1 - share), ("held out", held, share)):
            users = bitmap(words[chosen])
            manifest = replace(
                self.manifest,
                name=f"{self.manifest.name} {suffix}",
                kind="hold-out",
                size=len(users),
                version=0,
                created=_now(),
                parents=(str(self),),
                parameters={"share": part, "key": key},
                hash="",
            )
            parts.append(Audience(manifest, users))
        return parts[0], parts[1]

    def leakage(self, outcome_start: dt.date | str) -> Leakage:
        """Whether the data that chose the users reach into the outcome window.

        That would compare winners with losers by construction.
        """
        start = _date(outcome_start)
        if self.manifest.as_of is None:
            return Leakage(
                True,
                None,
                f"audience {self.manifest.name!r} does not say up to which day its data go "
                "(`as_of`), so leakage cannot be ruled out; "
                "build it again with `as_of`.",
            )
        last = _date(self.manifest.as_of)
        days = max(0, (last - start).days + 1)
        if days:
            return Leakage(
                True,
                days,
                f"audience {self.manifest.name!r} was chosen with data up to {last}, and the "
                f"outcome is counted from {start}: {days} "
                f"day{'s' * (days != 1)} of the outcome chose the users; use data before "
                f"{start}, or start the outcome later.",
            )
        return Leakage(
            False, 0, f"audience {self.manifest.name!r} uses data up to {last}; the outcome starts on {start}."
        )

    def check_model(self, model: str) -> None:
        """Passes when `model` (see `file_hash`) is the model that chose the users.

        Raises:
            ConfigError: it is another, or the audience has none.
        """
        if self.manifest.model != model:
            made = f"by model {self.manifest.model[:12]}" if self.manifest.model else "without a model"
            raise ConfigError(
                f"audience {self.manifest.name!r}: it was made {made} and the model at hand is "
                f"{model[:12]}; its users are not those this model "
                "would choose; build the audience again with this model, or use the model it was made "
                "by."
            )

    def save(self, folder: str | Path) -> "Audience":
        """Saves it as `folder/name/v1.roaring` and `v1.json`, the next version if another set is there.

        The result is the audience with its version.

        The set that is the latest version already is not saved again.
        """
        home = Path(folder) / self.manifest.name
        home.mkdir(parents=True, exist_ok=True)
        versions = saved_versions(folder, self.manifest.name)
        content = bytes(self.users.serialize())
        content_hash = hashlib.sha256(content).hexdigest()
        if versions:
            latest = load_audience(folder, self.manifest.name)
            if (
                latest.manifest.hash == content_hash
                and latest.manifest.model == self.manifest.model
                and latest.manifest.source == self.manifest.source
            ):
                return latest
        manifest = replace(self.manifest, version=max(versions, default=0) + 1, hash=content_hash)
        (home / f"v{manifest.version}.roaring").write_bytes(content)
        (home / f"v{manifest.version}.json").write_text(
            json.dumps(asdict(manifest), indent=1, ensure_ascii=False), encoding="utf-8"
        )
        return Audience(manifest, self.users)

    def _combine(self, other: "Audience", users: BitMap64, kind: str, sign: str) -> "Audience":
        other._check_kind(self.manifest.unit, f"audience {self.manifest.name!r}")
        days = [audience.manifest.as_of for audience in (self, other)]
        as_of = max(day for day in days if day) if all(days) else None
        models = {audience.manifest.model for audience in (self, other)} - {None}
        manifest = Manifest(
            f"{self.manifest.name} {sign} {other.manifest.name}",
            kind,
            f"{self} {sign} {other}",
            self.manifest.unit,
            len(users),
            created=_now(),
            as_of=as_of,
            model=models.pop() if len(models) == 1 else None,
            parents=(str(self), str(other)),
        )
        return Audience(manifest, users)

    def _word(self, unit: Unit) -> int:
        self._check_kind("string" if isinstance(unit, str) else "integer", f"the unit {unit!r}")
        return unit_hash(STRING_SALT, unit) if isinstance(unit, str) else unit & MASK

    def _check_kind(self, kind: UnitKind, what: str) -> None:
        if kind != self.manifest.unit:
            raise ConfigError(
                f"audience {self.manifest.name!r}: its ids are {self.manifest.unit}s and those of {what} "
                f"{kind}s; they have nothing in common; "
                "convert one of them."
            )


def load_audience(folder: str | Path, name: str, *, version: int | None = None, model: str | None = None) -> Audience:
    """The saved audience of that name, its latest version unless said otherwise.

    Args:
        folder: where audiences are saved.
        name: of the audience.
        version: which one.
        model: the hash of the model in use; another than the audience's is refused.

    Raises:
        ConfigError: no such audience or version, or the model is another.
        DataError: the file does not fit its manifest.
    """
    versions = saved_versions(folder, name)
    wanted = max(versions, default=0) if version is None else version
    if wanted not in versions:
        there = (
            f"it has versions {versions}"
            if versions
            else f"saved are {sorted(p.name for p in Path(folder).glob('*') if p.is_dir()) or 'none'}"
        )
        raise ConfigError(f"audience: there is no {name!r}{f' v{version}' if version else ''} in {folder}; {there}.")
    home = Path(folder) / name
    values: dict[str, Any] = json.loads((home / f"v{wanted}.json").read_text(encoding="utf-8"))
    values["parents"] = tuple(values["parents"])
    manifest = Manifest(**values)
    content = (home / f"v{wanted}.roaring").read_bytes()
    if hashlib.sha256(content).hexdigest() != manifest.hash:
        raise DataError(
            f"audience {name!r} v{wanted}: the file {home / f'v{wanted}.roaring'} is not the one its "
            "manifest describes (hash "
            f"{manifest.hash[:12]}); restore it or build the audience again."
        )
    audience = Audience(manifest, BitMap64.deserialize(content))
    if model is not None:
        audience.check_model(model)
    return audience


def saved_versions(folder: str | Path, name: str) -> list[int]:
    """The versions saved under a name, in order."""
    return sorted(int(path.stem[1:]) for path in (Path(folder) / name).glob("v*.json"))


def overlap(audiences: Sequence[Audience]) -> Overlap:
    """How every two of several audiences overlap: see `Overlap`."""
    size = len(audiences)
    count = np.zeros((size, size), np.int64)
    for i, first in enumerate(audiences):
        for j, second in enumerate(audiences[: i + 1]):
            second._check_kind(first.manifest.unit, f"audience {first.manifest.name!r}")  # pyright: ignore[reportPrivateUsage]
            count[i, j] = count[j, i] = first.users.intersection_cardinality(second.users)
    sizes = np.diag(count)
    either = sizes[:, None] + sizes[None, :] - count
    return Overlap(
        tuple(audience.manifest.name for audience in audiences),
        count,
        count / np.maximum(sizes, 1)[:, None],
        count / np.maximum(either, 1),
    )


def bitmap(ids: "Words | Strings") -> BitMap64:
    """The roaring bitmap of ids as `as_units` gives them."""
    words = ids.xxh64(STRING_SALT) if isinstance(ids, Strings) else ids
    if bool((words[1:] < words[:-1]).any()):
        words = np.sort(words)  # in order they go in several times as fast
    # pyroaring reads an array.array in one C call (40 M ids/s); other iterables go through Python objects.
    buffer = array.array("Q")
    buffer.frombytes(np.ascontiguousarray(words).view(np.uint8).data)
    return BitMap64(buffer)


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, for instance of a model's weights: 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _date(day: dt.date | str) -> dt.date:
    try:
        return day if isinstance(day, dt.date) else dt.date.fromisoformat(day[:10])
    except ValueError:
        raise ConfigError(f"audience: {day!r} is not a date; write it like 2026-01-31.") from None


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
