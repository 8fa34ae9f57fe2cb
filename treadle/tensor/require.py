"""Values that must fulfil a condition, also where they are not known yet: in a compiled function."""

from __future__ import annotations

from treadle.core import DataError
from treadle.ir import Node, Op, topological

from . import realize
from .tensor import Tensor
from .value import made, node_of, realized


def require(x: Tensor, good: Tensor, message: str, error: type[Exception] = DataError) -> Tensor:
    """Return x; raise an error unless `good`, bools of its shape, is true everywhere.

    That is now, or, in a compiled function, whenever it runs and before anything changes; not there for values that
    `is_cheap` does not hold for, since the check would do all that work twice.

    Args:
        x: what must be good.
        good: where it is.
        message: of the error; {value} in it is a wrong element.
        error: its class, one of those in `core/errors.py`.
    """
    if not x.size:
        return x
    if realize.is_traced(good.node):
        if not is_cheap(good.node):
            return x
        return made(Op.registry["require"](message, error.__name__)(node_of(x), node_of(good)), x)
    values, flags = (handle.array for handle in realized(x, good))
    if not flags.all():
        raise error(message.format(value=str(values[~flags][0])))
    return x


def is_cheap(node: Node) -> bool:
    """Whether no matrix product, convolution, loop over time or the like is needed to compute a node."""
    every = topological([node], stop=lambda n: realize.handle_of(n) is not None)
    return all(getattr(n.op, "kernel", "loop") == "loop" for n in every)
