"""Loops cut where positions change form: the pieces cover the loop, and results are those of the loop in one piece."""

import operator

import numpy as np
import pytest

import treadle as td
from treadle.core import float32, int64
from treadle.ir import Const, Node
from treadle.nn import functional as F
from treadle.schedule.pieces import MOST, Piece, periods, pieces
from treadle.te import Affine, Buffer, Fetch, Fn, Mod, Store, Var, add, fn, index, literal, mod, scale, select

MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def number(value: Node, at: dict[Node, int]) -> int:
    """Return the value of a position."""
    if value in at:
        return at[value]
    op, parts = value.op, [number(a, at) for a in value.args]
    match op:
        case Const():
            return int(op.value)
        case Affine():
            return sum(c * p for c, p in zip(op.coefficients, parts, strict=True)) + op.const
        case Mod():
            return parts[0] % op.by
        case _:
            assert isinstance(op, Fn)
            return {"min": min, "max": max}[op.fn](parts)


def store(where: Node, var: Node) -> tuple[Store, ...]:
    source, target = Buffer("x", float32, 1000, "arg", 0), Buffer("y", float32, 1000, "arg", 1)
    return (Store(target, var, Fetch(source)(where)),)


def starts(found: list[Piece]) -> list[int]:
    return [start for start, _, _ in found]


def test_every_piece_reads_evenly_what_the_whole_loop_reads() -> None:
    r = Var("r", 60)()
    mirrored = fn("max", add(r, -2), scale(add(r, -2), -1))
    for where, cuts in [
        (fn("min", fn("max", add(r, -2), index(0)), index(55)), [0, 2, 58]),
        (fn("min", mirrored, add(scale(mirrored, -1), 110)), [0, 2, 58]),
        (mod(add(r, 50), 60), [0, 10]),
        (mod(add(r, 5), 25), [0, 20, 45]),
        (fn("min", index(40), scale(r, 2)), [0, 20]),
    ]:
        found = pieces(r, store(where, r))
        assert starts(found) == cuts
        edges = [*cuts, 60]
        for (start, v, (inside,)), end in zip(found, edges[1:], strict=True):
            (read,) = inside.value.args
            assert not any(name in str(read) for name in ("min", "max", "mod"))
            for k in range(end - start):
                assert number(inside.index, {v: k}) == start + k
                assert number(read, {v: k}) == number(where, {r: start + k})


@pytest.mark.parametrize("name", ["lt", "le", "gt", "ge", "eq", "ne"])
@pytest.mark.parametrize("step", [1, -1])
def test_comparisons_are_known_in_every_piece(name: str, step: int) -> None:
    r, t = Var("r", 60)(), Var("t", 7)()
    source, target = Buffer("x", float32, 1000, "arg", 0), Buffer("y", float32, 1000, "arg", 1)
    outside = fn("lt", t, literal(3, int64))
    condition = fn(name, scale(r, step), index(10 * step))
    read, zero = Fetch(source)(index(5)), literal(0, float32)
    found = pieces(r, (Store(target, r, select(fn("and", condition, outside), read, zero)),))
    edges = [*starts(found), 60]
    for (start, _, (inside,)), end in zip(found, edges[1:], strict=True):
        holds = {bool(getattr(operator, name)(step * k, 10 * step)) for k in range(start, end)}
        assert holds == {inside.value is not zero}
        assert inside.value is zero or inside.value is select(outside, read, zero)


def test_what_does_not_change_and_what_changes_too_often_stays_whole() -> None:
    r = Var("r", 600)()
    assert pieces(r, store(scale(r, 2), r)) == [(0, r, store(scale(r, 2), r))]
    often = index(0)
    for k in range(MOST + 1):
        often = fn("max", often, add(scale(r, -1), 10 * k + 5))
        often = fn("min", often, add(r, 100 * k))
    assert starts(pieces(r, store(mod(r, 7), r))) == [0]
    assert len(pieces(r, store(often, r))) <= MOST
    assert periods(r, store(scale(r, 2), r)) == 0
    assert periods(r, store(mod(r, 7), r)) == 7


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("width", [(0, 1), (2, 3), (5, 0), (6, 6)])
def test_padding_of_every_length(mode: str, width: tuple[int, int]) -> None:
    for shape in [(3, 7), (2, 8), (2, 31), (3, 64), (2, 67), (1, 4090), (2, 5000), (1, 8192)]:
        x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        got = F.pad(td.asarray(x), width, mode) * 2
        np.testing.assert_array_equal(got.numpy(), 2 * np.pad(x, ((0, 0), width), mode=MODES[mode]))


def test_both_axes_at_once_and_several_operands() -> None:
    x = np.arange(5 * 37, dtype=np.float32).reshape(1, 1, 5, 37)
    got = F.pad(F.pad(td.asarray(x), (1, 2, 3, 1), "reflect"), (2, 1, 0, 1), "circular") + 1
    want = np.pad(np.pad(x[0, 0], ((3, 1), (1, 2)), mode="reflect"), ((0, 1), (2, 1)), mode="wrap") + 1
    np.testing.assert_array_equal(got.numpy()[0, 0], want)
    parts = [x[0, 0], x[0, 0, :, 3:20], x[0, 0, :, :1], -x[0, 0]]
    got = td.roll(td.concat([td.asarray(p) for p in parts], axis=1), 11, axis=1) * 3
    np.testing.assert_array_equal(got.numpy(), np.roll(np.concatenate(parts, 1), 11, 1) * 3)


def test_a_result_in_pieces_is_written_over_an_operand_it_reads_evenly() -> None:
    x = np.arange(130, dtype=np.float32).reshape(2, 65)

    @td.compile
    def step(a: td.Tensor, b: td.Tensor) -> td.Tensor:
        total = td.cumulative_sum(a, axis=1)  # a kernel of its own: its result is the next one's to write over
        return td.cumulative_sum(total + td.pad(b, ((0, 0), (2, 3))), axis=1)

    got = step(td.asarray(x), td.asarray(x[:, :60]))
    want = np.cumsum(np.cumsum(x, 1) + np.pad(x[:, :60], ((0, 0), (2, 3))), 1)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-6)
    (plan,) = step.plans
    assert plan.arena.peak < 2 * x.nbytes
