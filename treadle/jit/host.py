"""Kernels of the family "host": the reference meaning of a LAPACK-like op as a task, and the raising of its errors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.ir import Get, Graph, Input
from treadle.ops.fused import run_graph
from treadle.ops.host import Host
from treadle.runtime.host import Function, host_task, take_failure

if TYPE_CHECKING:
    from .plan import Plan

Array = np.ndarray[Any, Any]


def host_address(body: Graph) -> int:
    """Return the address of a task that computes a graph by the reference meaning of its one op."""
    return host_task(_function(body), [n.type for n in body.inputs], [n.type for n in body.outputs])


def _function(body: Graph) -> Function:
    """Return what a graph computes as a function of arrays; the walk over it is done here where that is possible."""
    (node,) = _ops(body)
    if not all(isinstance(a.op, Input) for a in node.args):
        return partial(run_graph, body)
    operands = [a.op.index for a in node.args]
    chosen = [n.op.index if isinstance(n.op, Get) else None for n in body.outputs]

    def compute(arrays: Sequence[Array]) -> list[Array]:
        found = node.op.eval(*[arrays[k] for k in operands])
        return [found if k is None else found[k] for k in chosen]

    return compute


def host_text(body: Graph) -> str:
    """Return what stands in the place of a kernel's LLVM text: a comment."""
    return f"; {', '.join(n.op.name for n in _ops(body))}: runs in Python, on NumPy's LAPACK. No code is generated.\n"


def host_flops(body: Graph) -> int:
    """Return about how many flops a kernel takes."""
    return sum(n.op.work(*[a.type for a in n.args]) for n in _ops(body) if isinstance(n.op, Host))


def _ops(body: Graph) -> list[Any]:
    return [n for n in body.nodes() if isinstance(n.op, Host)]


def raise_failure(plan: Plan, slots: int) -> None:
    """Raise what a task of the run that just ended could not do, with the user's line.

    The other tasks have run: cells the program writes hold NaN wherever they depend on the failed task.
    """
    failure = take_failure(slots)
    if failure is None:
        return
    number = plan.program.call_of(failure.args)
    for member in plan.members.get(plan.calls[number].step.node, ()):
        if isinstance(member.op, Host) and member.source is not None:
            failure.error.add_note(f"in {member.source}")
    raise failure.error
