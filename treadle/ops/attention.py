"""Scaled dot-product attention and its gradient as whole ops, so that a kernel may do them without the score matrix.

Operands are [B, H, T, D], views of wherever a projection left its heads; results are [B, T, H, D], heads inside, as the
projection that follows reads them. So no copies are needed around the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from treadle.core import DType, ShapeError, Type, float32, float64
from treadle.ir import Node, results

from .base import FLOATS, Array, Composite, check_dtypes
from .broadcast import reshape, zeros_like
from .cast import cast
from .compare import LessEqual
from .indexing import Iota
from .linalg import Matmul
from .logic import where
from .math import Exp
from .movement import permute, swap_last
from .neural import LogSumExp
from .reduce import Sum


@dataclass(frozen=True)
class Attention(Composite):
    """softmax(scale * q k^T) v as [B, T, H, D], and the scores' logsumexp [B, H, T].

    Operands are q [B, H, T, D] and k, v [B, H, S, D]; with `causal` row t sees columns 0..t. Scores and sums are
    float32 (float64 for float64). Where every score that a row sees is -inf, its result is NaN and its logsumexp
    -inf, as softmax of such a row. Columns that a row does not see weigh 0 in its sum: what is infinite or NaN in v may
    reach it all the same.
    """

    name = "attention"
    kernel = "attention"
    causal: bool
    scale: float

    def infer(self, q: Type, k: Type, v: Type) -> tuple[Type, Type]:
        _check_operands("attention", q, k, v)
        return _heads_inside(q), Type(_score_dtype(q.dtype), q.shape[:-1])

    def expand(self, q: Node, k: Node, v: Node) -> tuple[Node, Node]:
        scores = _scores(q, k, causal=self.causal, scale=self.scale)
        lse = LogSumExp((3,))(scores)
        p = _probabilities(scores, lse)
        return exchange_heads(cast(_times(p, cast(v, scores.dtype)), q.dtype)), lse

    def eval(self, q: Array, k: Array, v: Array) -> tuple[Array, Array]:
        scores, lse = _reference(q, k, causal=self.causal, scale=self.scale)
        wide = np.float64 if q.dtype == np.float64 else np.float32
        with np.errstate(all="ignore"):
            p = np.exp(scores - lse[..., None])
            return np.swapaxes(p @ v.astype(np.float64), 1, 2).astype(q.dtype), lse.astype(wide)

    def vjp(self, ct: tuple[Node | None, Node | None], out: Node, q: Node, k: Node, v: Node) -> list[Node | None]:
        ct_out, ct_lse = ct
        value, lse = results(out)
        cts: list[Node | None] = [None, None, None]
        if ct_out is not None:
            grads = results(AttentionGrad(self.causal, self.scale)(q, k, v, value, lse, ct_out))
            cts = [exchange_heads(g) for g in grads]
        if ct_lse is not None:
            # The gradient of logsumexp is the softmax; it reaches q and k only.
            scores = _scores(q, k, causal=self.causal, scale=self.scale)
            ds = _probabilities(scores, lse) * reshape(ct_lse, (*ct_lse.shape, 1)) * self.scale
            for place, more in enumerate(_through_scores(ds, q, k)):
                before = cts[place]
                cts[place] = more if before is None else before + more
        return cts


@dataclass(frozen=True)
class AttentionGrad(Composite):
    """The gradient of `attention` for q, k and v, heads inside, from operands, results and the cotangent of `out`.

    With P = exp(scores - lse): dv = P^T ct; dS = P * (ct v^T - rowsum(ct * out)); dq = scale dS k; dk = scale dS^T q.
    """

    name = "attention_grad"
    kernel = "attention"
    causal: bool
    scale: float

    def infer(self, q: Type, k: Type, v: Type, out: Type, lse: Type, ct: Type) -> tuple[Type, Type, Type]:
        _check_operands("attention_grad", q, k, v)
        inside = _heads_inside(q)
        wanted = (inside, Type(_score_dtype(q.dtype), q.shape[:-1]), inside)
        if (out, lse, ct) != wanted:
            raise ShapeError(
                f"attention_grad: result {out}, logsumexp {lse} and cotangent {ct} do not fit. "
                f"They must be {', '.join(map(str, wanted))}."
            )
        return inside, _heads_inside(k), _heads_inside(v)

    def expand(self, q: Node, k: Node, v: Node, out: Node, lse: Node, ct: Node) -> tuple[Node, Node, Node]:
        scores = _scores(q, k, causal=self.causal, scale=self.scale)
        p = _probabilities(scores, lse)
        wide = cast(exchange_heads(ct), scores.dtype)
        dv = cast(_times(swap_last(p), wide), v.dtype)
        along = Sum((3,), True)(wide * cast(exchange_heads(out), scores.dtype))
        ds = p * (_times(wide, swap_last(cast(v, scores.dtype))) - along) * self.scale
        dq, dk = _through_scores(ds, q, k)
        return exchange_heads(dq), exchange_heads(dk), exchange_heads(dv)

    def vjp(
        self,
        ct: tuple[Node | None, Node | None, Node | None],
        out: Node,
        q: Node,
        k: Node,
        v: Node,
        value: Node,
        lse: Node,
        ct_value: Node,
    ) -> list[Node | None]:
        """Differentiate the equations above once more, in the plain form: score matrices are made."""
        wide = _score_dtype(q.dtype)
        ct_dq, ct_dk, ct_dv = (
            cast(zeros_like(x) if c is None else exchange_heads(c), wide) for c, x in zip(ct, (q, k, v), strict=True)
        )
        wide_q, wide_k, wide_v = (cast(x, wide) for x in (q, k, v))
        o, g = (cast(exchange_heads(x), wide) for x in (value, ct_value))
        p = _probabilities(_scores(q, k, causal=self.causal, scale=self.scale), lse)
        inner = _times(g, swap_last(wide_v)) - Sum((3,), True)(g * o)
        ds = p * inner * self.scale
        ct_ds = (_times(ct_dq, swap_last(wide_k)) + _times(wide_q, swap_last(ct_dk))) * self.scale
        ct_inner = ct_ds * p
        ct_along = -Sum((3,), True)(ct_inner)
        ct_scores = (ct_ds * inner + _times(g, swap_last(ct_dv))) * p
        scaled = ct_scores * self.scale
        cts = [
            _times(ds, ct_dk) + _times(scaled, wide_k),
            _times(swap_last(ds), ct_dq) + _times(swap_last(scaled), wide_q),
            _times(swap_last(ct_inner), g),
            exchange_heads(ct_along * g),
            -Sum((3,))(ct_scores),
            exchange_heads(_times(p, ct_dv) + _times(ct_inner, wide_v) + ct_along * o),
        ]
        return [cast(c, x.dtype) for c, x in zip(cts, (q, k, v, value, lse, ct_value), strict=True)]

    def eval(self, q: Array, k: Array, v: Array, out: Array, lse: Array, ct: Array) -> tuple[Array, Array, Array]:
        scores, _ = _reference(q, k, causal=self.causal, scale=self.scale)
        wide_q, wide_k, wide_v = (x.astype(np.float64) for x in (q, k, v))
        wide_out, wide_ct = (np.swapaxes(x, 1, 2).astype(np.float64) for x in (out, ct))
        with np.errstate(all="ignore"):
            p = np.exp(scores - lse[..., None].astype(np.float64))
            dp = wide_ct @ np.swapaxes(wide_v, -1, -2)
            ds = p * (dp - (wide_ct * wide_out).sum(-1, keepdims=True)) * self.scale
            dq, dk, dv = ds @ wide_k, np.swapaxes(ds, -1, -2) @ wide_q, np.swapaxes(p, -1, -2) @ wide_ct
        dq, dk, dv = (np.swapaxes(x, 1, 2).astype(q.dtype) for x in (dq, dk, dv))
        return dq, dk, dv


def exchange_heads(x: Node) -> Node:
    """Return [B, H, T, D] as [B, T, H, D], or the other way round."""
    return permute(x, (0, 2, 1, 3))


def _heads_inside(x: Type) -> Type:
    b, h, t, d = x.shape
    return Type(x.dtype, (b, t, h, d))


def _check_operands(what: str, q: Type, k: Type, v: Type) -> None:
    check_dtypes(what, (q, k, v), FLOATS)
    if q.ndim != 4 or k != v or (*q.shape[:2], q.shape[-1]) != (*k.shape[:2], k.shape[-1]):
        raise ShapeError(
            f"{what}: q {q}, k {k} and v {v} do not fit. They must be [B, H, T, D], [B, H, S, D] and [B, H, S, D]."
        )


def _times(a: Node, b: Node) -> Node:
    return Matmul()(a, b)


def _score_dtype(dtype: DType) -> DType:
    return float64 if dtype is float64 else float32


def _scores(q: Node, k: Node, *, causal: bool, scale: float) -> Node:
    """Return scale * q k^T, with -inf where a row does not see a column."""
    wide = _score_dtype(q.dtype)
    scores = _times(cast(q, wide), swap_last(cast(k, wide))) * scale
    if not causal:
        return scores
    rows, columns = scores.shape[-2:]
    seen = LessEqual()(Iota(columns)(), reshape(Iota(rows)(), (rows, 1)))
    return where(seen, scores, float("-inf"))


def _probabilities(scores: Node, lse: Node) -> Node:
    return Exp()(scores - reshape(lse, (*lse.shape, 1)))


def _through_scores(ds: Node, q: Node, k: Node) -> tuple[Node, Node]:
    """Return the cotangents of q and k, given that of q k^T."""
    dq = _times(ds, cast(k, ds.dtype))
    dk = _times(swap_last(ds), cast(q, ds.dtype))
    return cast(dq, q.dtype), cast(dk, k.dtype)


def _reference(q: Array, k: Array, *, causal: bool, scale: float) -> tuple[Array, Array]:
    """Return the scores and their logsumexp, in float64."""
    with np.errstate(all="ignore"):
        scores = q.astype(np.float64) @ np.swapaxes(k.astype(np.float64), -1, -2) * scale
        if causal:
            scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
        top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        top[~np.isfinite(top)] = 0
        return scores, (np.log(np.exp(scores - top).sum(axis=-1, keepdims=True)) + top)[..., 0]
