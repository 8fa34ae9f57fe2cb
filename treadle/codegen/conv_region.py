"""The copy of a block of x that results of a convolution, or of its weight's gradient, meet."""

from __future__ import annotations

from collections.abc import Sequence

from treadle.schedule.conv import Phase, Region
from treadle.schedule.conv_problem import ConvProblem

from .conv_pack import PixelPack
from .llvm import Function, Value, VType, storage_type


def region_pack(problem: ConvProblem, region: Region, kind: VType, channels: int) -> PixelPack:
    """Return the copy of this many channels of a region, in vectors of `kind`."""
    x = problem.x
    return PixelPack(
        x.dtype, kind, (x.outer, *x.spatial), x.inner, problem.sizes, region.gaps, channels, region.pitches
    )


def fill_region(
    f: Function,
    pack: Function,
    buffers: tuple[Value, Value],
    problem: ConvProblem,
    region: Region,
    phase: Phase,
    channel: Value,
    starts: Sequence[Value],
    extents: Sequence[Value],
) -> None:
    """Call `pack`, made from `region_pack`, for the part of x that a block of results of a phase meets.

    Args:
        f: where to write the call.
        pack: what is called.
        buffers: x, and where its copy goes.
        problem: what is computed.
        region: where what lies in the copy.
        phase: of the results.
        channel: the first channel that is copied.
        starts: the first image and result along each axis.
        extents: how many of them.
    """
    (source, target), x = buffers, problem.x
    at = f.iadd(f.iadd(f.imul(starts[0], x.outer), f.imul(channel, x.inner)), x.offset)
    firsts: list[Value] = []
    counts: list[Value] = []
    for a, axis in enumerate(phase):
        firsts.append(f.iadd(f.imul(starts[a + 1], axis.x_step), axis.x_start))
        reach = max(axis.taps - 1, 0) * axis.x_tap // region.gaps[a]
        counts.append(f.iadd(f.imul(f.isub(extents[a + 1], 1), axis.x_step // region.gaps[a]), reach + 1))
    f.call(pack, f.gep(source, at, storage_type(x.dtype)), target, extents[0], *firsts, *counts)
