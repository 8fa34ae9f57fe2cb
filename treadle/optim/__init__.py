"""Optimisers named as in PyTorch, learning rates as functions of the step, clipping. Open `optimizer.py` first."""

from .adam import Adam, AdamState, AdamW, adam
from .clip import clip_grad_norm_, clip_grad_value_, get_total_norm
from .optimizer import Group, Optimizer
from .schedule import Schedule, chain, constant, cosine, linear, warmup
from .sgd import SGD, SGDState, sgd

__all__ = [
    "SGD",
    "Adam",
    "AdamState",
    "AdamW",
    "Group",
    "Optimizer",
    "SGDState",
    "Schedule",
    "adam",
    "chain",
    "clip_grad_norm_",
    "clip_grad_value_",
    "constant",
    "cosine",
    "get_total_norm",
    "linear",
    "sgd",
    "warmup",
]
