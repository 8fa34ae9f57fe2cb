"""What a convolution computes, as strides: where x, the weight and the result lie, and which places meet.

With an input dilation neighbouring results meet different taps. Results that meet the same ones are a *phase*: for
each the taps and the places of x they meet are evenly spaced again, so that a phase is an ordinary convolution.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

from treadle.core import DType, float32
from treadle.ir import Graph, Node
from treadle.ops.conv import Conv, ConvOp, ConvWeightGrad
from treadle.ops.conv_planes import ConvPlanes

from .product import strided_view

AXES = 3  # spatial axes of a problem: fewer have axes of size 1 in front


@dataclass(frozen=True)
class Place:
    """Where an operand lies: element (outer, spatial, inner) is number `offset + sum of index times stride`.

    `outer` is the image of x, the input channel of the weight; `inner` the channel of x, the weight's output channel.
    """

    dtype: DType
    offset: int
    outer: int
    spatial: tuple[int, ...]
    inner: int


@dataclass(frozen=True)
class AxisPhase:
    """Results `start + q * step` for q < count, and the taps `tap_start + t * tap_step`, t < taps, that they meet.

    They meet them at `x_start + q * x_step + t * x_tap` of x.
    """

    start: int
    step: int
    count: int
    tap_start: int
    tap_step: int
    taps: int
    x_start: int
    x_step: int
    x_tap: int


@dataclass(frozen=True)
class ConvProblem:
    """A convolution of `images` images in groups of `channels` to `columns` channels each; `dtype` is what is added.

    `paired` is a depthwise one: every output channel meets the one input channel with its number. It has one group
    of one channel, so to speak, and neighbouring columns meet neighbouring channels of x.
    """

    dtype: DType
    images: int
    groups: int
    channels: int
    columns: int
    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    out: tuple[int, ...]
    strides: tuple[int, ...]
    low: tuple[int, ...]
    dilation: tuple[int, ...]
    input_dilation: tuple[int, ...]
    x: Place
    w: Place  # of the weight; of the cotangent where it is the weight's gradient that is computed
    paired: bool = False

    @property
    def inputs(self) -> int:
        """Channels of x that a group meets."""
        return self.columns if self.paired else self.channels

    @cached_property
    def axis_phases(self) -> tuple[tuple[AxisPhase, ...], ...]:
        """The phases along each axis."""
        return tuple(self._phases(a) for a in range(AXES))

    @property
    def phases(self) -> tuple[tuple[AxisPhase, ...], ...]:
        """The phases of the whole problem, one per axis each."""
        return tuple(itertools.product(*self.axis_phases))

    def _phases(self, axis: int) -> tuple[AxisPhase, ...]:
        stride, low, dilation = self.strides[axis], self.low[axis], self.dilation[axis]
        between, out, taps = self.input_dilation[axis], self.out[axis], self.kernel[axis]
        period = between // math.gcd(stride, between)  # results that lie this far apart meet the same taps
        tap_step = between // math.gcd(dilation, between)
        found: list[AxisPhase] = []
        for p in range(min(period, out)):
            first = next(
                (r for r in range(min(tap_step, taps)) if (p * stride + r * dilation - low) % between == 0), taps
            )
            count = -(-(taps - first) // tap_step)
            x_start = (p * stride + first * dilation - low) // between if count else 0
            found.append(
                AxisPhase(
                    p,
                    period,
                    -(-(out - p) // period),
                    first,
                    tap_step,
                    count,
                    x_start,
                    period * stride // between,
                    tap_step * dilation // between,
                )
            )
        return tuple(found)

    @property
    def flops(self) -> int:
        """Multiplications and additions, zeros of the padding included."""
        met = 0
        for phase in self.phases:
            met += math.prod(a.count * a.taps for a in phase)
        return 2 * self.images * self.groups * self.columns * self.channels * met

    def __str__(self) -> str:
        def sizes(values: tuple[int, ...]) -> str:
            return "x".join(map(str, values))

        words = [f"{self.images} x {sizes(self.sizes)}x{self.inputs} -> {sizes(self.out)}x{self.columns}"]
        words.append(f"taps {sizes(self.kernel)}")
        for name, values, usual in (
            ("stride", self.strides, 1),
            ("low", self.low, 0),
            ("dilation", self.dilation, 1),
            ("input dilation", self.input_dilation, 1),
        ):
            if any(v != usual for v in values):
                words.append(f"{name} {sizes(values)}")
        if self.groups > 1 or self.paired:
            words.append("depthwise" if self.paired else f"{self.groups} groups")
        return f"{', '.join(words)}, {self.dtype.short}: {_layout(self.x)}, {_layout(self.w)}"


def _layout(place: Place) -> str:
    return f"{place.dtype.short}{(place.outer, *place.spatial, place.inner)}".replace(" ", "")


def conv_of(body: Graph) -> Node:
    """Return the convolution, or weight gradient, of a group."""
    return next(n for n in body.nodes() if isinstance(n.op, ConvOp))


def conv_problem(node: Node) -> tuple[ConvProblem, Node, Node]:
    """Return the problem of a convolution or a weight gradient, and the inputs its operands are strided views of."""
    op = node.op
    assert isinstance(op, ConvOp)
    x, other = node.args
    left, x_strides, x_offset = strided_view(x)
    right, w_strides, w_offset = strided_view(other)
    missing = AXES - op.num_axes
    images, *sizes, inputs = x.shape
    if isinstance(op, ConvPlanes):
        kernel, out, columns = other.shape[:-2], node.shape[2:], node.shape[1]
        *spatial, outer, inner = w_strides
        images, inputs, *sizes = x.shape
        x_strides = (x_strides[0], *x_strides[2:], x_strides[1])
    elif isinstance(op, Conv):
        kernel, out, columns = other.shape[:-2], node.shape[1:-1], node.shape[-1]
        *spatial, outer, inner = w_strides
    else:
        assert isinstance(op, ConvWeightGrad)
        kernel, out, columns = op.taps, other.shape[1:-1], other.shape[-1]
        outer, *spatial, inner = w_strides
    n, *along, c = x_strides
    wide = node.dtype if node.dtype.bits >= 32 else float32
    paired = 1 < op.groups == inputs == columns and not isinstance(op, ConvPlanes)
    groups = 1 if paired else op.groups
    ones, zeros = (1,) * missing, (0,) * missing
    problem = ConvProblem(
        wide,
        images,
        groups,
        inputs // op.groups,
        columns // groups,
        (*ones, *sizes),
        (*ones, *kernel),
        (*ones, *out),
        (*ones, *op.strides),
        (*zeros, *op.low),
        (*ones, *op.dilation),
        (*ones, *op.input_dilation),
        Place(left.dtype, x_offset, n, (*zeros, *along), c),
        Place(right.dtype, w_offset, outer, (*zeros, *spatial), inner),
        paired,
    )
    return problem, left, right
