"""Nested tuples, lists and dicts as a flat list of leaves and a hashable structure."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

LEAF = "*"


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """Return the leaves of nested tuples, lists, named tuples, dicts and None, in order, and what is around them."""
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves)


def _flatten(tree: Any, leaves: list[Any]) -> Any:
    kind = tree.__class__
    if kind in (tuple, list) or (hasattr(kind, "_fields") and issubclass(kind, tuple)):
        return (kind, *[_flatten(item, leaves) for item in tree])
    if kind is dict:
        return (dict, tuple(tree), *[_flatten(item, leaves) for item in tree.values()])
    if tree is None:
        return None
    leaves.append(tree)
    return LEAF


def unflatten(structure: Any, leaves: Iterable[Any]) -> Any:
    """Return the tree with this structure and these leaves."""
    return _unflatten(structure, iter(leaves))


def _unflatten(structure: Any, leaves: Iterator[Any]) -> Any:
    if structure is None:
        return None
    if structure == LEAF:
        return next(leaves)
    if structure[0] is dict:
        return dict(zip(structure[1], [_unflatten(s, leaves) for s in structure[2:]], strict=True))
    items = [_unflatten(s, leaves) for s in structure[1:]]
    kind = structure[0]
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """Return the tree with `function` applied to every leaf."""
    leaves, structure = flatten(tree)
    return unflatten(structure, map(function, leaves))
