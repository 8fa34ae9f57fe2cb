"""Passes over graphs of tensor ops: pure functions from graph to graph. Open `fuse.py` first: it matters most."""

from .decompose import DECOMPOSE, decompose, has_own_kernel
from .fuse import Decision, Fusion, fuse
from .orient import ORIENT, orient
from .simplify import RULES, SIMPLIFY, SIMPLIFY_FAST, simplify
from .split import SPLIT, split

__all__ = [
    "DECOMPOSE",
    "ORIENT",
    "RULES",
    "SIMPLIFY",
    "SIMPLIFY_FAST",
    "SPLIT",
    "Decision",
    "Fusion",
    "decompose",
    "fuse",
    "has_own_kernel",
    "orient",
    "simplify",
    "split",
]
