"""The operators of case K1: what goes in, and what must come out.

Operands are drawn from N(0, 1), seed 0, in the order of the shapes. Each peer has a function of the same name.
"""

from dataclasses import dataclass

import numpy as np

from values import F32, Batch

NORM_EPS = 1e-5


@dataclass(frozen=True)
class Operator:
    """One operator: the shapes of its operands and the mean absolute value of its result."""

    name: str
    title: str
    shapes: tuple[tuple[int, ...], ...]
    mean: float  # in float64
    gflop: float | None = None  # where arithmetic is what takes the time
    tolerance: float = 1e-5  # relative

    def operands(self) -> Batch:
        rng = np.random.default_rng(0)
        return tuple(rng.standard_normal(shape, dtype=F32) for shape in self.shapes)


HEADS = (4, 12, 512, 64)

OPERATORS = (
    Operator("matmul", "matrix product 1024 x 1024 x 1024", ((1024, 1024),) * 2, 25.544994, 2.15),
    Operator("softmax", "softmax over rows, 4096 x 4096", ((4096, 4096),), 1 / 4096),
    Operator("layer_norm", "layer norm of rows, 4096 x 1024", ((4096, 1024), (1024,), (1024,)), 1.0569515),
    Operator("gelu", "GELU (erf), 16 M elements", ((1 << 24,),), 0.39888213),
    Operator(
        "conv2d", "convolution 3x3, 8 x 64 x 56 x 56, 64 filters", ((8, 64, 56, 56), (64, 64, 3, 3)), 18.864857, 1.85
    ),
    Operator("chain", "ten elementwise operations, 4 M elements", ((1 << 22,),), 0.28462411),
    # The elements nearly cancel: the sum of their sizes is 30,000 times the sum, and so is the rounding.
    Operator("sum", "sum of 16 M elements", ((1 << 24,),), 449.32857, tolerance=1e-3),
    Operator("attention", "causal attention, 4 x 12 x 512 x 64", (HEADS,) * 3, 0.10521491, 1.61),
)
