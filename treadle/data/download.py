"""Files that a data set needs: found in folders, or fetched once, checked by digest, and kept."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.progress import wrap_file

from treadle.core import DataError, config


def data_folder(name: str) -> Path:
    """Return where files of a data set are kept: TREADLE_DATA_DIR, or the cache folder."""
    base = os.environ.get("TREADLE_DATA_DIR")
    return Path(base) / name if base else Path(config.cache_dir or tempfile.gettempdir()) / "data" / name


def digest(path: Path, kind: str = "sha256") -> str:
    """Return a file's digest: "sha256" of its content, unpacked, as gzip may pack the same bytes in many ways.

    "md5" is that of the file as it is, which is what the authors of old data sets publish.
    """
    hasher = hashlib.new(kind, usedforsecurity=False)
    packed = path.suffix == ".gz" and kind != "md5"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            while block := file.read(1 << 20):
                hasher.update(block)
    except (OSError, EOFError, zlib.error) as error:
        return f"unreadable: {error}"
    return hasher.hexdigest()


def files(
    name: str,
    digests: Mapping[str, str],
    *,
    root: str | Path | None,
    urls: Sequence[str],
    elsewhere: Sequence[Path] = (),
    package: str = "",
    download: bool = True,
) -> dict[str, Path]:
    """Return the paths of a data set's files, by name.

    They are looked for in `root`, then where the system keeps them, then in the cache folder; else they are downloaded
    there. Every file's content must have its digest.

    Args:
        name: of the data set.
        digests: of each file, as `digest` gives it: SHA-256, or MD5 behind "md5:".
        root: a folder that has the files.
        urls: folders on the web, tried in order.
        elsewhere: folders of the system.
        package: a Debian package with the files, fetched where the web does not answer.
        download: False only looks in folders.

    Raises:
        DataError: a file is nowhere, or is damaged.
    """
    kept = data_folder(name)
    places = [Path(root)] if root is not None else [*elsewhere, kept]
    for place in places:
        if all((place / file).exists() for file in digests):
            return {file: _checked(place / file, wanted) for file, wanted in digests.items()}
    if root is not None or not download:
        raise DataError(
            f"{name}: {', '.join(digests)} are not all in {' or '.join(map(str, places))}. Give the folder that has "
            "them as root, or leave root out to download them."
        )
    kept.mkdir(parents=True, exist_ok=True)
    trouble: list[str] = []
    missing = {file: wanted for file, wanted in digests.items() if not (kept / file).exists()}
    if not all(_fetch(file, kept, urls, trouble) for file in missing) and not (
        package and _from_debian(package, list(digests), kept, trouble)
    ):
        advice = f", or install Debian's package {package}" if package else ""
        raise DataError(
            f"{name}: no download worked: {'; '.join(trouble)}. Put {', '.join(digests)} into {kept}{advice}."
        )
    return {file: _checked(kept / file, wanted) for file, wanted in digests.items()}


def _checked(path: Path, wanted: str) -> Path:
    kind, _, value = wanted.rpartition(":")
    found = digest(path, kind or "sha256")
    if found != value:
        raise DataError(f"{path} is damaged: its digest is {found}, not {value}. Delete it, and it is fetched again.")
    return path


def _fetch(file: str, folder: Path, urls: Sequence[str], trouble: list[str]) -> bool:
    """Download a file; it appears whole under its name or not at all."""
    for base in urls:
        try:
            with urllib.request.urlopen(f"{base}/{file}", timeout=20) as answer:
                total = int(answer.headers.get("Content-Length") or 0)
                with (
                    wrap_file(answer, total, description=file, transient=True) as source,
                    tempfile.NamedTemporaryFile(dir=folder, delete=False) as target,
                ):
                    shutil.copyfileobj(source, target)
            Path(target.name).replace(folder / file)
        except (OSError, urllib.error.URLError, ValueError) as error:
            trouble.append(f"{base}: {error}")
        else:
            return True
    return False


def _from_debian(package: str, wanted: Sequence[str], folder: Path, trouble: list[str]) -> bool:
    """Take files out of a Debian package, downloaded and unpacked without being installed."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return False
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            subprocess.run(["apt-get", "download", package], cwd=scratch, check=True, capture_output=True, timeout=600)
            (archive,) = Path(scratch).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", str(archive), scratch], check=True, capture_output=True, timeout=600)
            for file in wanted:
                (found,) = Path(scratch).rglob(file)
                found.replace(folder / file)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            trouble.append(f"apt-get download {package}: {error}")
            return False
    return True
