"""PyTorch through torch.compile: the models of `torch_eager` with forward and backward compiled."""

import shutil
from functools import partial

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


def tiny() -> Step:
    return torch_eager.tiny(torch.compile)


# Freezing the weights of I1 (`options={"freezing": True}`) makes no difference that can be measured.
STEPS = {name: partial(make, wrap=torch.compile) for name, make in torch_eager.STEPS.items()}
