"""Text to train on: files, whole folders, or the Python standard library's own sources, always in the same order."""

import os
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from treadle.core import DataError

SKIPPED_FOLDERS = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules"})
TEST_FOLDERS = frozenset({"test", "tests", "idle_test"})


@dataclass(frozen=True)
class Corpus:
    """Text as UTF-8 bytes, the files it came from in order, and those of a folder that are not text."""

    data: bytes
    files: tuple[Path, ...]
    skipped: tuple[Path, ...] = ()

    def split(self, validation: float) -> tuple[bytes, bytes]:
        """Return the first part of the text, to train on, and its last share of `validation`, to measure on."""
        if not 0 < validation < 1:
            raise DataError(f"split: a validation share of {validation} leaves a part empty. Allowed: between 0 and 1.")
        cut = len(self.data) - max(1, round(len(self.data) * validation))
        # A cut inside a character would leave two halves that are not text: move it back to where one starts.
        while cut > 0 and self.data[cut] & 0xC0 == 0x80:
            cut -= 1
        return self.data[:cut], self.data[cut:]


def standard_library() -> list[Path]:
    """Return the source files of the running Python's standard library, its tests left out."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [path for path in _walk(root, SKIPPED_FOLDERS | TEST_FOLDERS) if path.suffix == ".py"]
    if not files:
        raise DataError(
            f"text: no Python sources under {root} (a Python without its library's sources). Name a text: --text PATH."
        )
    return files


def read_text(paths: Sequence[str | os.PathLike[str]] = (), *, limit: int | None = None) -> Corpus:
    """Return the text of files and folders joined by newlines; without paths, of the Python standard library.

    A file named here must be UTF-8 text. Inside a folder, files that are not are left out and listed in `skipped`.

    Args:
        paths: files or folders; folders are read through in order of their paths, hidden ones left out.
        limit: stop after this many bytes.
    """
    if "" in [os.fspath(path) for path in paths]:
        raise DataError("text: a path is empty. Name a file or a folder; '.' is the current folder.")
    named = [Path(path) for path in paths]
    wanted = [item for path in named for item in _expand(path)] if named else [(p, False) for p in standard_library()]
    parts, files, skipped, size = list[bytes](), list[Path](), list[Path](), 0
    for path, must in wanted:
        if limit is not None and size >= limit:
            break
        data = _read(path, must=must)
        if data is None:
            skipped.append(path)
        elif data.strip():
            parts.append(data)
            files.append(path)
            size += len(data) + 1
    if not parts:
        told = ", ".join(map(str, named)) or "the standard library"
        rest = f" ({len(skipped)} files there are not UTF-8 text)" if skipped else ""
        raise DataError(f"text: {told} has no text{rest}. Name files, or folders of files, that are not empty.")
    data = b"\n".join(parts)
    return Corpus(data if limit is None else _whole_characters(data[:limit]), tuple(files), tuple(skipped))


def _expand(path: Path) -> Iterator[tuple[Path, bool]]:
    if path.is_dir():
        try:
            os.scandir(path).close()
        except OSError as error:
            raise DataError(
                f"text: cannot read the folder {path}: {error.strerror}. Check its permissions, or leave it out."
            ) from None
        yield from ((file, False) for file in _walk(path, SKIPPED_FOLDERS))
    elif path.is_file():
        yield path, True
    elif path.exists():
        raise DataError(
            f"text: {path} is a pipe or a device, which cannot be read again when a run is resumed. "
            "Write its text to a file and name that."
        )
    else:
        raise DataError(f"text: {path} does not exist (looked in {Path.cwd()}). Name a file or a folder.")


def _walk(root: Path, skip: frozenset[str]) -> Iterator[Path]:
    """Yield the files below a folder, ordered by path and not by what the file system happens to say."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in skip and not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _read(path: Path, *, must: bool) -> bytes | None:
    """Return a file's bytes; None when it is not text and need not be."""
    try:
        data = path.read_bytes()
        data.decode("utf-8")
    except OSError as error:
        if must:
            raise DataError(
                f"text: cannot read {path}: {error.strerror}. Check its permissions, or leave it out."
            ) from None
        return None
    except UnicodeDecodeError as error:
        if must:
            raise DataError(
                f"text: {path} is not UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start} "
                f"({error.reason}). "
                "Convert it first, for instance with `iconv -t utf-8`."
            ) from None
        return None
    # A NUL byte is valid UTF-8 and the surest sign of a binary file.
    if b"\0" in data:
        if must:
            raise DataError(f"text: {path} holds NUL bytes: it is a binary file. Name a text file.")
        return None
    return data


def _whole_characters(data: bytes) -> bytes:
    """Return the bytes without the character that is cut off at the end."""
    return data.decode("utf-8", errors="ignore").encode()
