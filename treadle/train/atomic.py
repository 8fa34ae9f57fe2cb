"""Files that are replaced whole or not at all: written beside the old one, flushed to the disk, renamed over it."""

import os
from collections.abc import Callable
from pathlib import Path


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Replace `path` by what `write(temporary path)` writes; whatever fails, the old file is untouched."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # what the umask gives; a writer that makes its own file may be stricter
        write(temporary)
        temporary.chmod(mode)
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)  # the rename itself is on the disk only when the folder is
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, str(temporary)):
            error.filename = str(path)  # the name the user knows
        raise


def replace_text(path: Path, text: str) -> None:
    """Replace `path` by a text."""
    replace(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
