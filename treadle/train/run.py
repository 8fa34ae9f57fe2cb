"""The folder of a run: its configuration, one JSON line per step, the checkpoint, the loss curve and a sample."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from treadle.core import CheckpointError, ConfigError

from . import atomic

Record = dict[str, Any]


class Run:
    """A run folder. The metrics file never holds a step that the checkpoint it is resumed from has not seen."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.json"
        self.metrics = folder / "metrics.jsonl"
        self.checkpoint = folder / "checkpoint.safetensors"
        self.curve = folder / "loss.svg"
        self.sample = folder / "sample.txt"
        self._log: TextIO | None = None

    @classmethod
    def create(cls, folder: Path | None, name: str) -> Run:
        """Return a new run in `folder`, or in one of its own under `runs/`; nothing is written yet."""
        if folder is None:
            folder = _unused(Path("runs"), f"{name}-{datetime.now():%Y%m%d-%H%M%S}")
        run = cls(folder)
        if run.config.exists():
            raise ConfigError(
                f"run: {folder} holds a run already. Go on with it (--resume {folder}), or name another folder (--run)."
            )
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Return an existing run."""
        run = cls(folder)
        if not run.config.is_file():
            raise CheckpointError(
                f"run: {folder} is not a run folder: it has no config.json. Name the folder that training printed."
            )
        return run

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Save the configuration; this makes the folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"run: cannot make the folder {self.folder}: {error.strerror}. Name another one (--run)."
            ) from None
        atomic.replace_text(self.config, json.dumps(dict(config), indent=2) + "\n")

    def read_config(self) -> Record:
        """Return the saved configuration."""
        try:
            found = json.loads(self.config.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(
                f"run: {self.config} is not JSON ({error}). Restore it, or start a new run."
            ) from None
        if not isinstance(found, dict):
            raise CheckpointError(f"run: {self.config} is not a JSON object. Restore it, or start a new run.")
        return dict[str, Any](found)  # pyright: ignore[reportUnknownArgumentType]

    def log(self, **record: Any) -> None:
        """Append one line to the metrics."""
        if self._log is None:
            self._log = self.metrics.open("a", encoding="utf-8", buffering=1)
        self._log.write(json.dumps(record) + "\n")

    def flush(self) -> None:
        """Put the metrics on the disk: before a checkpoint, so that none is newer than its metrics."""
        if self._log is not None:
            self._log.flush()
            os.fsync(self._log.fileno())

    def close(self) -> None:
        """Close the metrics file."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def records(self) -> Iterator[Record]:
        """Yield the metrics; a last line that a killed process left unfinished is left out."""
        if self.metrics.exists():
            with self.metrics.open(encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    try:
                        yield json.loads(line)
                    except ValueError:
                        continue

    def truncate(self, step: int) -> None:
        """Drop the metrics after `step`, which a run resumed from there writes again."""
        self.close()
        kept = [json.dumps(record) + "\n" for record in self.records() if record["step"] <= step]
        atomic.replace_text(self.metrics, "".join(kept))


def _unused(parent: Path, name: str) -> Path:
    """Return `parent/name`, with a number when two runs start in the same second."""
    folder, count = parent / name, 2
    while folder.exists():
        folder, count = parent / f"{name}-{count}", count + 1
    return folder
