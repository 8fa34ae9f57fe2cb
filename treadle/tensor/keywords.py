"""PyTorch's words for arguments: `dim` for `axis` and `keepdim` for `keepdims`, as PyTorch takes both, too."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

WORDS = {"dim": "axis", "keepdim": "keepdims"}


def either_word(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function take `dim` for `axis` (or `axes`, whichever it has) and `keepdim` for `keepdims`."""
    words = WORDS if "axes" not in inspect.signature(function).parameters else {"dim": "axes"}

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for theirs, ours in words.items():
            if theirs in kwargs:
                if ours in kwargs:
                    raise TypeError(f"{function.__name__}: {theirs} and {ours} are the same. Give one of them.")
                kwargs[ours] = kwargs.pop(theirs)
        return function(*args, **kwargs)

    return call
