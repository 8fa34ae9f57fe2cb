"""State dicts in safetensors files, which PyTorch and others read and write, too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError, numpy, safe_open

from treadle.core import CheckpointError

Arrays = dict[str, np.ndarray[Any, Any]]
PathLike = str | os.PathLike[str]


def save(state_dict: Mapping[str, Any], path: PathLike) -> None:
    """Write the tensors of a state dict to a safetensors file."""
    arrays = {name: np.asarray(value, order="C") for name, value in state_dict.items()}
    for name, array in arrays.items():
        if array.dtype.hasobject or array.dtype.kind in "US":
            raise CheckpointError(
                f"save: {name!r} is a {type(state_dict[name]).__name__}. Allowed: tensors and arrays of numbers; turn "
                "it into one, or leave it out and save it beside."
            )
    try:
        write_arrays(path, arrays, {})
    except (SafetensorError, OSError) as error:
        needed = sum(array.nbytes for array in arrays.values())
        raise CheckpointError(
            f"save: {path} cannot be written: {error}. It takes {needed / 1e6:.1f} MB; check the folder and its "
            "free space."
        ) from error


def load(path: PathLike) -> Arrays:
    """Return the arrays of a safetensors file by name, as `load_state_dict` takes them."""
    if not os.path.isfile(path):
        raise CheckpointError(f"load: {path} does not exist, or is no file. Name the file that save() wrote.")
    try:
        arrays, _ = read_arrays(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"load: {path} is no safetensors file, or cut short: {error}. Use another copy."
        ) from error
    return arrays


def write_arrays(path: PathLike, arrays: Mapping[str, np.ndarray[Any, Any]], metadata: dict[str, str]) -> None:
    """Write arrays and texts to a safetensors file."""
    numpy.save_file(dict(arrays), path, metadata=metadata)  # pyright: ignore[reportUnknownMemberType]


def read_arrays(path: PathLike) -> tuple[Arrays, dict[str, str]]:
    """Return the arrays of a safetensors file and its texts."""
    opened: Any = safe_open(path, framework="numpy")
    with opened as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
