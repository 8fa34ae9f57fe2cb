"""Object code on disk, found again by a digest of all it depends on: content, CPU, LLVM, treadle's code generators.

Many processes may share the folder: files appear whole (temporary name, then rename), carry their own checksum, and may
vanish at any time. Trouble with the folder costs a warning and compile time, never a result.
"""

import contextlib
import hashlib
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path

from treadle.codegen import toolchain
from treadle.codegen.target import Target
from treadle.core.config import config

LIMIT_NBYTES = 512 * 1024 * 1024
_MAGIC = b"treadle object 1\n"
_SWEEP_EVERY = 64  # writes between two looks at the folder's size
_STALE_SECONDS = 3600.0  # a temporary file this old was left by a process that died


@cache
def _generators() -> str:
    """A digest of treadle's version and of the sources that turn nests into code."""
    digest = hashlib.sha256()
    with contextlib.suppress(metadata.PackageNotFoundError):  # run from a checkout that is not installed
        digest.update(metadata.version("treadle").encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


def cache_key(content: str, target: Target) -> str:
    """The name under which the object code of `content` for `target` is kept."""
    parts = (content, target.key, toolchain.versions(), _generators())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class ObjectCache:
    """A folder of object files, at most `limit` bytes of them; the least recently used go first."""

    def __init__(self, folder: Path, limit: int = LIMIT_NBYTES) -> None:
        self.folder = folder
        self.hits = 0
        self.misses = 0
        self._limit = limit
        self._writes = 0
        self._broken = False
        self._lock = threading.Lock()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.o"

    def get(self, key: str) -> bytes | None:
        """The object code kept under `key`; None if there is none or it is damaged."""
        path = self._path(key)
        try:
            raw = path.read_bytes()
        except OSError:
            raw = b""
        head = len(_MAGIC) + hashlib.sha256().digest_size
        code = raw[head:]
        if raw[:head] != _MAGIC + hashlib.sha256(code).digest() or not code:
            self.misses += 1
            return None
        self.hits += 1
        with contextlib.suppress(OSError):
            os.utime(path)  # the time of last use decides what is evicted
        return code

    def put(self, key: str, code: bytes) -> None:
        """Keep object code; trouble with the folder warns once and turns writing off."""
        if self._broken:
            return
        try:
            self._write(self._path(key), code)
            with self._lock:
                sweep = self._writes % _SWEEP_EVERY == 0
                self._writes += 1
            if sweep:
                self.sweep()
        except OSError as error:
            self._broken = True
            warnings.warn(
                f"cache: cannot write to {self.folder} ({error.strerror or error}); compiled kernels are not kept, so "
                "the next process compiles them again. Free space there, or set TREADLE_CACHE_DIR to another folder "
                "(empty for none).",
                RuntimeWarning,
                stacklevel=3,
            )

    def _write(self, path: Path, code: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # who can write here can make us run code
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(code).digest() + code)
            os.replace(temporary, path)
        except BaseException:  # also Ctrl-C: leave nothing behind
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def sweep(self) -> None:
        """Delete files, longest unused first, until nine tenths of the limit are left; and what dead processes left."""
        files: list[tuple[float, int, Path]] = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(OSError):  # another process may be sweeping too
                status = path.stat()
                if path.suffix == ".o":
                    files.append((status.st_mtime, status.st_size, path))
                elif path.suffix == ".tmp" and time.time() - status.st_mtime > _STALE_SECONDS:
                    path.unlink()
        total = sum(size for _, size, _ in files)
        if total <= self._limit:
            return
        for _, size, path in sorted(files):
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size
            if total <= 0.9 * self._limit:
                return


@cache
def _cache_in(folder: str) -> ObjectCache:
    return ObjectCache(Path(folder).expanduser())


def object_cache() -> ObjectCache | None:
    """The cache in `config.cache_dir`; None if that is empty."""
    return _cache_in(config.cache_dir) if config.cache_dir else None


def object_code(content: str, write: Callable[[], str], target: Target) -> bytes:
    """The object code of `content`: from the cache, or compiled from the text that `write` gives, then kept.

    `content` must determine the text: the scheduled loop nest in text form, or the LLVM text itself.
    """
    store = object_cache()
    if store is None:
        return toolchain.compile_object(write(), target)
    key = cache_key(content, target)
    code = store.get(key)
    if code is None:
        code = toolchain.compile_object(write(), target)
        store.put(key, code)
    return code
