"""`einsum`: products of several tensors, summed, written with a label per axis.

Two operands meet in one batched matrix product over views: labels they share and that stay are its batch, shared ones
that go are summed inside it, the others are rows and columns. Where both operands have neither, or nothing is summed,
it is an elementwise product, which fuses with what follows. More operands meet in pairs: at each step the pair whose
result is smallest compared with its operands (Smith and Gray, "opt_einsum", 2018, the greedy path).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from treadle.core import ConfigError, DTypeError, ShapeError, bool_

from . import elementwise as ew
from . import manipulation as shapes
from . import reductions
from .linalg import matmul
from .promotion import as_tensor, is_sequence, meet
from .value import made, node_of

if TYPE_CHECKING:
    from .tensor import Tensor

# A label is a number: letters are 0 to 51 (A to Z, a to z, in the order implicit outputs are sorted in), the axes that
# an ellipsis stands for are negative, the last one being -1.
Labels = tuple[int, ...]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
DOTS = "..."


@dataclass(frozen=True)
class Term:
    """A tensor and the label of each of its axes, all different."""

    tensor: Tensor
    labels: Labels

    @property
    def sizes(self) -> dict[int, int]:
        """The size of every label."""
        return dict(zip(self.labels, self.tensor.shape, strict=True))


def einsum(*operands: Any) -> Tensor:
    """Return a product of tensors summed over axes, as NumPy's and PyTorch's functions of this name do.

    >>> import treadle as td
    >>> td.einsum("ij,jk->ik", td.ones((2, 3)), td.ones((3, 4))).shape
    (2, 4)

    The first operand is text: a letter per axis of every tensor, "..." for any number of further axes, and after "->"
    the axes of the result; what is not named there is summed. Without "->" the result has the axes of an ellipsis and
    then, in the order of their letters (capitals first), those named once. A letter twice in one operand is its
    diagonal. Or every tensor is followed by a list of labels, numbers from 0 to 51 and Ellipsis, and a last list, if
    given, is the result's. Axes of size 1 broadcast.
    """
    inputs, output, given = _read(operands)
    tensors = [as_tensor("einsum", x) for x in given]
    nodes, _, dtype = meet("einsum", *tensors)
    if dtype is bool_:
        raise DTypeError("einsum: does not take bool. Allowed: integers and floats. Convert with astype() first.")
    tensors = [made(node, t) for node, t in zip(nodes, tensors, strict=True)]
    labelled = [_labels(k, term, t) for k, (term, t) in enumerate(zip(inputs, tensors, strict=True))]
    wanted = _output(labelled, output)
    sizes = _sizes(labelled, tensors)
    terms = [_plain(t, labels, sizes) for t, labels in zip(tensors, labelled, strict=True)]
    while len(terms) > 1:
        i, j = _best_pair(terms, wanted)
        a, b = terms[i], terms[j]
        rest = [t for k, t in enumerate(terms) if k not in (i, j)]
        kept = set(wanted).union(*[t.labels for t in rest])
        terms = [*rest, _contract(a, b, kept, wanted)]
    return _arranged(_summed(terms[0], set(wanted)), wanted, sizes)


# --- reading ------------------------------------------------------------------------------------------------

Subscript = tuple[Any, ...]  # labels and at most one Ellipsis


def _read(operands: Sequence[Any]) -> tuple[list[Subscript], Subscript | None, list[Any]]:
    """Return the labels of every tensor, those of the result if given, and the tensors."""
    if not operands:
        raise ShapeError('einsum: got nothing. Give an equation such as "ij,jk->ik" and its tensors.')
    first, *rest = operands
    if not isinstance(first, str):
        return _read_lists(operands)
    if len(rest) == 1 and is_sequence(rest[0]):
        rest = list(rest[0])
    text = first.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = [_subscript(first, part) for part in left.split(",")]
    if len(terms) != len(rest):
        raise ShapeError(f"einsum: {first!r} names {len(terms)} operands, {len(rest)} are given. Give as many.")
    return terms, _subscript(first, right) if arrow else None, rest


def _subscript(equation: str, part: str) -> Subscript:
    head, dots, tail = part.partition(DOTS)
    for letter in (*head, *tail):
        if letter not in LETTERS:
            raise ConfigError(
                f"einsum: {letter!r} in {equation!r} is not a label. Allowed: letters, one '...' per operand, ',' and "
                "one '->'."
            )
    items = tuple(LETTERS.index(letter) for letter in head)
    return (*items, *((Ellipsis,) if dots else ()), *[LETTERS.index(letter) for letter in tail])


def _read_lists(operands: Sequence[Any]) -> tuple[list[Subscript], Subscript | None, list[Any]]:
    *pairs, last = operands if len(operands) % 2 else (*operands, None)
    if len(pairs) < 2 or not all(is_sequence(labels) for labels in (*pairs[1::2], *([] if last is None else [last]))):
        raise ShapeError("einsum: without an equation, every tensor is followed by a list of labels, such as [0, 1].")
    for label in itertools.chain(*pairs[1::2], last or ()):
        if label is not Ellipsis and (not hasattr(label, "__index__") or not 0 <= label < len(LETTERS)):
            raise ConfigError(f"einsum: {label!r} is not a label. Allowed: 0 to {len(LETTERS) - 1} and Ellipsis.")
    return [tuple(labels) for labels in pairs[1::2]], None if last is None else tuple(last), list(pairs[::2])


def _labels(number: int, term: Subscript, tensor: Tensor) -> Labels:
    """Return one label per axis of a tensor."""
    named = len(term) - (Ellipsis in term)
    further = tensor.ndim - named
    if term.count(Ellipsis) > 1:
        raise ConfigError(f"einsum: operand {number} has {term.count(Ellipsis)} ellipses. Allowed: one.")
    if further < 0 or (further and Ellipsis not in term):
        raise ShapeError(
            f"einsum: operand {number} is {tensor.node.type!r}, which has {tensor.ndim} axes; its labels "
            f"{_shown(term)!r} name {named}. Name each axis, or write '...'."
        )
    found: list[int] = []
    for label in term:
        found += range(-further, 0) if label is Ellipsis else [label]
    return tuple(found)


def _shown(term: Sequence[Any]) -> str:
    return "".join(DOTS if label is Ellipsis else LETTERS[label] if label >= 0 else DOTS for label in term)


def _output(inputs: Sequence[Labels], given: Subscript | None) -> Labels:
    """Return the labels of the result."""
    used = [label for labels in inputs for label in labels]
    dots = sorted({label for label in used if label < 0})
    if given is None:
        return (*dots, *sorted(label for label in set(used) if label >= 0 and used.count(label) == 1))
    found: list[int] = []
    for label in given:
        found += dots if label is Ellipsis else [label]
    for label in found:
        if label not in used or found.count(label) > 1:
            problem = "is in no operand" if label not in used else "stands in the result twice"
            name = LETTERS[label]
            raise ConfigError(f"einsum: label {name!r} {problem}. Allowed: labels of the operands, each once.")
    return tuple(found)


def _sizes(inputs: Sequence[Labels], tensors: Sequence[Tensor]) -> dict[int, int]:
    sizes: dict[int, int] = {}
    for labels, tensor in zip(inputs, tensors, strict=True):
        for label, size in zip(labels, tensor.shape, strict=True):
            known = sizes.setdefault(label, size)
            if known == 1:
                sizes[label] = size
            elif size not in (1, known):
                raise ShapeError(
                    f"einsum: label {_shown([label])!r} has sizes {known} and {size}. Sizes must be equal or 1."
                )
    return sizes


# --- terms --------------------------------------------------------------------------------------------------


def _plain(tensor: Tensor, labels: Labels, sizes: dict[int, int]) -> Term:
    """Return a term of different labels, without axes of size 1 that broadcast: diagonals taken, axes squeezed."""
    for label in [label for label in dict.fromkeys(labels) if labels.count(label) > 1]:
        tensor, labels = _diagonal(tensor, labels, label)
    single = [a for a, label in enumerate(labels) if tensor.shape[a] == 1 and sizes[label] != 1]
    if single:
        tensor = shapes.squeeze(tensor, single)
    return Term(tensor, tuple(label for a, label in enumerate(labels) if a not in single))


def _diagonal(tensor: Tensor, labels: Labels, label: int) -> tuple[Tensor, Labels]:
    """Return the elements whose positions on all axes of one label are equal."""
    own = [a for a, other in enumerate(labels) if other == label]
    rest = [a for a in range(len(labels)) if a not in own]
    size = max(tensor.shape[a] for a in own)
    batch = [tensor.shape[a] for a in rest]
    spread = shapes.permute_dims(tensor, [*rest, *own])
    spread = shapes.broadcast_to(spread, [*batch, *[size] * len(own)])
    # In a row of all elements, those of the diagonal stand 1 + size + size**2 + ... places apart.
    flat = shapes.reshaped(node_of(spread), (*batch, size ** len(own)))
    step = sum(size**k for k in range(len(own)))
    node = shapes.sliced(flat, [0] * len(flat.shape), [*batch, size], [*[1] * len(batch), step])
    return made(node, spread), (*[labels[a] for a in rest], label)


def _summed(term: Term, kept: set[int]) -> Term:
    """Return the term summed over labels that nothing else needs."""
    axes = [a for a, label in enumerate(term.labels) if label not in kept]
    if not axes:
        return term
    tensor = reductions.sum(term.tensor, axis=axes, dtype=term.tensor.dtype)
    return Term(tensor, tuple(label for label in term.labels if label in kept))


def _arranged(term: Term, wanted: Labels, sizes: dict[int, int]) -> Tensor:
    """Return the tensor with its axes in the order of the labels; those it lacks had size 1 wherever they were."""
    have = [label for label in wanted if label in term.labels]
    found = shapes.permute_dims(term.tensor, [term.labels.index(label) for label in have])
    own = dict(zip(have, found.shape, strict=True))
    return shapes.broadcast_to(
        shapes.reshape(found, [own.get(label, 1) for label in wanted]), [sizes[label] for label in wanted]
    )


def _best_pair(terms: Sequence[Term], wanted: Labels) -> tuple[int, int]:
    """Return the pair whose product grows memory least, then takes least work."""

    def cost(pair: tuple[int, int]) -> tuple[int, int]:
        a, b = (terms[k] for k in pair)
        kept = set(wanted).union(*[t.labels for k, t in enumerate(terms) if k not in pair])
        sizes = a.sizes | b.sizes
        result = math.prod(n for label, n in sizes.items() if label in kept)
        return result - a.tensor.size - b.tensor.size, math.prod(sizes.values())

    return min(itertools.combinations(range(len(terms)), 2), key=cost)


def _contract(a: Term, b: Term, kept: set[int], wanted: Labels) -> Term:
    """Return the product of two terms, summed over the labels that neither the result nor another term has."""
    a, b = _summed(a, kept | set(b.labels)), _summed(b, kept | set(a.labels))
    shared = [label for label in a.labels if label in b.labels]
    batch, inner = [x for x in shared if x in kept], [x for x in shared if x not in kept]
    if not _rows(a, b) or (_rows(b, a) and _comes_first(_rows(b, a), _rows(a, b), wanted)):
        a, b = b, a
    rows, columns = _rows(a, b), _rows(b, a)
    sizes = a.sizes | b.sizes
    labels = (*batch, *rows, *columns)
    if not inner or not rows:
        product = ew.multiply(_spread(a, (*labels, *inner)), _spread(b, (*labels, *inner)))
        return _summed(Term(product, (*labels, *inner)), kept)
    left = _as_matrices(a, batch, rows, inner)
    right = _as_matrices(b, batch, inner, columns)
    product = shapes.reshape(matmul(left, right), [sizes[label] for label in labels])
    return Term(product, labels)


def _rows(a: Term, b: Term) -> list[int]:
    return [label for label in a.labels if label not in b.labels]


def _comes_first(first: Sequence[int], second: Sequence[int], wanted: Labels) -> bool:
    """Whether labels stand before others in the result, so that the product comes out in its order."""
    places = {label: k for k, label in enumerate(wanted)}
    last = len(wanted)
    return min(places.get(x, last) for x in first) < min((places.get(x, last) for x in second), default=last)


def _spread(term: Term, labels: Labels) -> Tensor:
    """Return the tensor with an axis for every label, of size 1 where it has none."""
    order = [label for label in labels if label in term.labels]
    tensor = shapes.permute_dims(term.tensor, [term.labels.index(label) for label in order])
    sizes = term.sizes
    return shapes.reshape(tensor, [sizes.get(label, 1) for label in labels])


def _as_matrices(term: Term, batch: Sequence[int], first: Sequence[int], second: Sequence[int]) -> Tensor:
    """Return the tensor as a batch of matrices; without a batch, as one."""
    order = [*batch, *first, *second]
    tensor = shapes.permute_dims(term.tensor, [term.labels.index(label) for label in order])
    sizes = term.sizes
    rows, columns = math.prod(sizes[x] for x in first), math.prod(sizes[x] for x in second)
    return shapes.reshape(tensor, (*[sizes[x] for x in batch], rows, columns))
