"""One safetensors file with all that a run needs to go on: weights, optimiser state, random state, where it stood."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from treadle.core import CheckpointError
from treadle.nn import read_arrays, write_arrays

from . import atomic

FORMAT = "treadle-checkpoint-1"
Arrays = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Checkpoint:
    """Arrays by group (`model`, `optimizer`, ...) and name, and facts that fit into JSON (`step`, ...)."""

    groups: Mapping[str, Arrays]
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def step(self) -> int:
        """Steps done when it was taken."""
        return int(self.facts.get("step", 0))


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in the place of the one before, which survives if anything goes wrong."""
    arrays = {
        f"{group}:{name}": np.asarray(array, order="C")
        for group, named in checkpoint.groups.items()
        for name, array in named.items()
    }
    facts = {
        "format": FORMAT,
        "facts": json.dumps(dict(checkpoint.facts)),
        "groups": json.dumps(list(checkpoint.groups)),
    }
    try:
        atomic.replace(path, lambda temporary: write_arrays(temporary, arrays, facts))
    except (OSError, SafetensorError) as error:
        needed = sum(array.nbytes for array in arrays.values())
        kept = f"The one written before, {path}, is kept." if path.exists() else "No earlier one exists."
        raise CheckpointError(
            f"checkpoint: step {checkpoint.step} cannot be written to {path}: {_reason(error)} "
            f"({needed / 1e6:.1f} MB needed, {_free(path)} free). {kept} Free some space, or use another folder."
        ) from error


def load(path: Path) -> Checkpoint:
    """Read a checkpoint; CheckpointError when it is missing, cut short or something else altogether."""
    if not path.is_file():
        raise CheckpointError(
            f"checkpoint: {path} does not exist. Name the folder of a run that has saved at least once."
        )
    try:
        arrays, facts = read_arrays(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"checkpoint: {path} ({path.stat().st_size} bytes) is damaged or cut short: {error}. "
            "Use another copy of it, or train again."
        ) from error
    if facts.get("format") != FORMAT:
        raise CheckpointError(
            f"checkpoint: {path} is a safetensors file but no checkpoint of a run (format {facts.get('format')!r}, "
            f"not {FORMAT!r}). Load its tensors with model.load_state_dict(nn.load(path))."
        )
    groups: dict[str, dict[str, np.ndarray[Any, Any]]] = {group: {} for group in json.loads(facts["groups"])}
    for name, array in arrays.items():
        group, _, key = name.partition(":")
        groups[group][key] = array
    return Checkpoint(groups, json.loads(facts["facts"]))


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _free(path: Path) -> str:
    try:
        return f"{shutil.disk_usage(path.parent).free / 1e6:.1f} MB"
    except OSError:
        return "unknown space"
