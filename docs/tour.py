"""Writes docs/tour.md: one function followed through every stage, the output made by running it.

`make fix` runs it; a test fails when the page is out of date. Kernels are made for AVX2 and two threads everywhere.
"""

import re
from pathlib import Path

import numpy as np

import treadle as td

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tour.md"
SETTINGS = {"cpu": "avx2", "threads": 2}


@td.compile
def head(x, w, b):  # noqa: ANN001, ANN201  # as a user writes it
    """Return class probabilities: a linear layer, ReLU, softmax."""
    hidden = td.maximum(x @ w + b, 0.0)
    return td.softmax(hidden, axis=-1)


def arguments() -> tuple[np.ndarray, ...]:
    """Return the arguments it is followed with."""
    rng = np.random.default_rng(0)
    draw = rng.standard_normal
    return draw((512, 64), np.float32), draw((64, 256), np.float32) / 8, np.zeros(256, np.float32)


def source() -> str:
    """Return the function as it stands above."""
    text = Path(__file__).read_text()
    found = re.search(r"@td\.compile\n.*?return td\.softmax[^\n]*", text, re.DOTALL)
    assert found, "the function is gone"
    return re.sub(r"  # noqa[^\n]*", "", found[0])


def fence(text: str, language: str = "text") -> str:
    """Return text as a block of code; paths begin at the checkout."""
    return f"```{language}\n{text.strip().replace(f'{ROOT}/', '')}\n```"


def vector_loop(llvm: str) -> str:
    """Return the first basic block of LLVM text that works on whole vectors."""
    body = llvm[llvm.index("define") :]
    blocks = re.split(r"\n(?=\w+:\n)", body)
    return next(b for b in blocks if "load <" in b)


def decisions(plan: td.Plan) -> str:
    """Return what the fuser decided, one line per pair of values."""
    lines = [
        f"{'fused  ' if d.fused else 'refused'} {d.producer.op.name} -> {d.consumer.op.name}: {d.reason}"
        for d in plan.fusion.decisions
    ]
    return "\n".join(lines)


def tour() -> str:
    """Return the page."""
    x, w, b = arguments()
    with td.config(**SETTINGS):
        plan = head.plan(x, w, b)
        stages = plan.stages()
        result = head(x, w, b).numpy()
    product, softmax = (name.removeprefix("schedule:") for name in stages if name.startswith("schedule:"))
    shown = "\n".join(" ".join(f"{p:.5f}" for p in row) for row in result[:2, :8])
    return f"""# One function, every stage

This page is written by `docs/tour.py`, which runs what it shows; a test fails when the two differ. Every form below
is text that you can ask for: `plan = head.plan(x, w, b)`, then `plan.stages()` is a mapping from a stage's name to
its text. `treadle explain FILE.py:FUNCTION` prints it with predictions and measurements beside it.

## 1. The function

{fence(source(), "python")}

It is called with arrays of types {", ".join(f"`{n.type!r}`" for n in plan.graph.inputs)}. The first call with these
types compiles; later ones go straight to the last section.

## 2. Trace: `stages["trace"]`

The function is run once on stand-ins. Every operation becomes a `Node(op, args, type)`: immutable, interned, so equal
expressions are one object. The line that made a node is kept beside it, for errors and reports.
(`treadle/ir/node.py`, `treadle/jit/tracer.py`)

{fence(stages["trace"])}

## 3. Passes: `stages["decompose"]`, `stages["simplify"]`, ...

A pass is a pure function from graph to graph; the pipeline is the tuple in `treadle/jit/pipeline.py`. `decompose`
writes composite ops in simpler ones: here softmax, with the maximum taken off so that `exp` cannot overflow.
`simplify` applies rules that keep every bit; `orient` turns products that are only read transposed; `split` cuts long
sums into parts that threads share. This graph after the last of them:

{fence(stages[plan.passes[-1].name])}

## 4. Fusion: `stages["fuse"]`

Values whose loops agree share a kernel, so that what lies between them never goes to memory. The softmax and
everything up to it is one kernel over 512 rows. The product cannot take it as its epilogue: a row's maximum needs the
whole row. (`treadle/passes/fuse.py`)

{fence(stages["fuse"])}

Why, as `plan.fusion.decisions` has it:

{fence(decisions(plan))}

## 5. Formula, schedule, loop nest: `stages["schedule:..."]`

Each op says what one element of its result is, as a scalar formula of the index (`lower` in `treadle/ops/`); a
group's formulas are put into each other, and the schedule chooses loops, lanes and what is kept per row. A value that
two passes over a row need, and that is dear, is kept in scratch memory: here `exp`. (`treadle/te/`,
`treadle/schedule/loops.py`)

{fence(stages[f"schedule:{softmax}"])}

The product has a generator of its own around one register tile; its schedule is a record of sizes.
(`treadle/schedule/matmul.py`, `treadle/codegen/microkernel.py`)

{fence(stages[f"schedule:{product}"].splitlines()[0])}

## 6. LLVM: `stages["llvm:..."]`

One walk over the nest writes LLVM text; there are no optimisation passes behind it, so what you read is what runs.
The first loop of the softmax kernel, 32 lanes wide: four AVX2 registers (`assembly:...` has the instructions):

{fence(vector_loop(stages[f"llvm:{softmax}"]), "llvm")}

`maximum` is two comparisons: NaN in, NaN out. Object code goes into a cache on disk under a key made of the schedule,
the CPU and the versions, so that the next process does not compile. (`treadle/codegen/loops.py`,
`treadle/codegen/cache.py`)

## 7. Memory: `stages["memory"]`

All temporaries live in one arena; from the first and last kernel that touches each, offsets are chosen once. The peak
is printed beside the lower bound that no plan could beat. (`treadle/runtime/arena.py`)

{fence(stages["memory"])}

## 8. Tasks: `stages["tasks"]`

Tiles of all kernels are placed on threads ahead of time; a thread waits only where it reads what another wrote. A
step is one native call with the GIL released. Results have the same bits for every number of threads: a tile is never
split, and sums are made in an order that depends on the shape alone. (`treadle/runtime/tasks.py`,
`treadle/runtime/pool.py`)

{fence(stages["tasks"])}

## 9. Run

{fence("head(x, w, b)[:2, :8]  # the first probabilities of two rows" + chr(10) + shown)}
"""


if __name__ == "__main__":
    PAGE.write_text(tour())
