"""PyTorch through torch.compile: the models of `torch_eager` with forward and backward compiled."""

import shutil
from typing import Any

import numpy as np
import torch

import torch_eager
from torch_eager import Step, set_threads, version

NAME = "torch.compile"
MODULE = "torch"

__all__ = ["MODULE", "NAME", "STEPS", "set_threads", "tiny", "unavailable", "version"]


def unavailable() -> str | None:
    """Return why this peer cannot run here, or None."""
    if not any(map(shutil.which, ("g++", "clang++", "c++"))):
        return "torch.compile needs a C++ compiler (apt install g++)"
    return None


def mlp(values: dict[str, np.ndarray], batch: Any) -> Step:
    return torch_eager.mlp(values, batch, torch.compile)


def gpt(values: dict[str, np.ndarray], batch: Any) -> Step:
    return torch_eager.gpt(values, batch, torch.compile)


def lstm(values: dict[str, np.ndarray], batch: Any) -> Step:
    return torch_eager.lstm(values, batch, torch.compile)


def tiny() -> Step:
    return torch_eager.tiny(torch.compile)


STEPS = {"T1": mlp, "T3": gpt, "T4": lstm}
