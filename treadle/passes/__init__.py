"""Passes over graphs of tensor ops: pure functions from graph to graph. Open `fuse.py` first: it matters most."""

from .decompose import DECOMPOSE, decompose, has_own_kernel
from .fuse import Decision, Fusion, fuse
from .simplify import RULES, SIMPLIFY, SIMPLIFY_FAST, simplify

__all__ = [
    "DECOMPOSE",
    "RULES",
    "SIMPLIFY",
    "SIMPLIFY_FAST",
    "Decision",
    "Fusion",
    "decompose",
    "fuse",
    "has_own_kernel",
    "simplify",
]
