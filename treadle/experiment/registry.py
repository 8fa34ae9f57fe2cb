"""Pre-registration: the versions of a spec, each with its hash, its time and what changed, in words.

They are kept in one JSON file an experiment. The entries form a chain (each names the hash of the one before), so that
a later edit of the file is noticed. What a report shows is `history`.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from treadle.core.errors import ConfigError, DataError
from treadle.experiment.spec import Spec


class Registered(NamedTuple):
    """One version.

    When it was registered (UTC, ISO 8601), the hash of the spec, what changed since the version before, and the spec's
    values.
    """

    version: int
    time: str
    hash: str
    changes: tuple[str, ...]
    spec: dict[str, Any]
    link: str  # SHA-256 over this entry and the link of the one before


def register(spec: Spec, folder: str | Path, *, now: dt.datetime | None = None) -> Registered:
    """Registers a spec in a folder; the same spec again gives the entry it has.

    Raises:
        ConfigError: the spec changed and its version did not, or its version skips one; the message says what changed.
        DataError: the registry's file was edited.
    """
    entries = history(spec.experiment, folder)
    last = entries[-1] if entries else None
    if last and last.hash == spec.hash() and last.version == spec.version:
        return last
    changes = differences(last.spec, spec.canonical()) if last else ()
    wanted = last.version + 1 if last else 1
    if last and not changes:
        raise ConfigError(
            f"register: version {spec.version} of {spec.experiment!r} says the same as version {last.version}; keep "
            f"`version: {last.version}`."
        )
    if spec.version != wanted:
        since = (
            f" since version {last.version} was registered at {last.time}: {'; '.join(changes)}"
            if last
            else " and is not registered yet"
        )
        why = f"{spec.experiment!r} changed{since}" if last else f"{spec.experiment!r} is new{since}"
        raise ConfigError(
            f"register: {why}; the file says `version: {spec.version}`; set it to {wanted}, so that the report can say "
            "what changed."
        )
    time = (now or dt.datetime.now(dt.UTC)).isoformat(timespec="seconds")
    entry = Registered(spec.version, time, spec.hash(), changes, spec.canonical(), "")
    entry = entry._replace(link=_link(entry, last.link if last else ""))
    path = _path(spec.experiment, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps([e._asdict() for e in [*entries, entry]], indent=1, ensure_ascii=False)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)  # whole or not at all
    return entry


def history(experiment: str, folder: str | Path) -> list[Registered]:
    """The registered versions, oldest first; empty for an experiment that was never registered.

    Raises:
        DataError: an entry does not fit the hash it was stored with.
    """
    path = _path(experiment, folder)
    if not path.is_file():
        return []
    stored: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    entries = [Registered(**entry)._replace(changes=tuple(entry["changes"])) for entry in stored]
    link = ""
    for entry in entries:
        link = _link(entry, link)
        if link != entry.link:
            raise DataError(
                f"registry: version {entry.version} of {experiment!r} in {path} was changed after "
                f"{entry.time}; restore the file from a copy; "
                "a changed plan needs a new version."
            )
    return entries


def differences(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, ...]:
    """What changed between two canonical specs, one phrase a change; `version` apart."""
    words = list(_changes(old, new, ""))
    if not words and list(old.get("variants", {})) != list(new.get("variants", {})):
        words.append(f"the order of variants was {list(old['variants'])}, is now {list(new['variants'])}")
    return tuple(words)


def _changes(old: Any, new: Any, path: str) -> Iterator[str]:
    before, after = _named(old), _named(new)
    if old == new or path == "version":
        return
    if before is not None and after is not None:
        for name in [*before, *(name for name in after if name not in before)]:
            yield from _changes(before.get(name), after.get(name), f"{path}.{name}" if path else name)
    elif old is None:
        yield f"{path} is new: {_show(new)}"
    elif new is None:
        yield f"{path} is gone (was {_show(old)})"
    else:
        yield f"{path} was {_show(old)}, is now {_show(new)}"


def _named(value: Any) -> dict[str, Any] | None:
    """A mapping as it is, a list of records as a mapping by what each is about, else None."""
    if isinstance(value, dict):
        return value  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(value, list):
        return None
    items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
    if not all(isinstance(item, dict) for item in items):
        return None
    return {" ".join(str(item[key]) for key in ("metric", "column", "op") if item.get(key)): item for item in items}


def _show(value: Any) -> str:
    fields = _named(value)
    if fields:
        return ", ".join(f"{name} {_show(item)}" for name, item in fields.items() if item not in (None, [], {}))
    return f"`{value}`" if isinstance(value, str) else str(value)


def _link(entry: Registered, before: str) -> str:
    content = json.dumps([before, *entry[:5]], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


def _path(experiment: str, folder: str | Path) -> Path:
    return Path(folder) / f"{experiment}.json"
