"""From a fused group of ops to a loop nest: which loops, which of them in vector lanes, how many passes over a row.

Three shapes of nest. *Elementwise*: blocks of a flat range, or rows of the last axes where elements are read in another
order. *Rows*: one turn of the outer loop folds the inner elements, in as many passes as reductions wait for each other
(softmax: max, sum, quotient). *Columns*: the outer elements lie side by side, so they run in lanes and each lane folds
its own column.
"""

from __future__ import annotations

from treadle.ir import Graph

from .elementwise import Elementwise
from .fold import Fold
from .loop_kernel import Cpu, LoopSchedule, is_reduction


def schedule_loops(body: Graph, cpu: Cpu, name: str = "loops") -> LoopSchedule:
    """Return the schedule of a group whose outputs and reductions share their loops (see `passes.fuse`)."""
    kernel = Fold if any(is_reduction(n) for n in body.nodes()) else Elementwise
    return kernel(body, cpu, name).run()
