"""PyTorch's words for arguments: `dim` for `axis` and `keepdim` for `keepdims`, as PyTorch takes both, too."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

WORDS = {"dim": "axis", "keepdim": "keepdims"}


def either_word(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function take `dim` for `axis` and `keepdim` for `keepdims`."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for theirs, ours in WORDS.items():
            if theirs in kwargs:
                if ours in kwargs:
                    raise TypeError(f"{function.__name__}: {theirs} and {ours} are the same. Give one of them.")
                kwargs[ours] = kwargs.pop(theirs)
        return function(*args, **kwargs)

    return call
