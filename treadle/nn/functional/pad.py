"""Padding at the ends of axes: with a constant, or with elements reflected, repeated or from the other end."""

from __future__ import annotations

from collections.abc import Sequence

from treadle.core import ConfigError, ShapeError
from treadle.ir import Op
from treadle.tensor import Tensor, made, node_of
from treadle.tensor.manipulation import pad as pad_axes
from treadle.tensor.promotion import Operand, as_tensor

MODES = ("constant", "reflect", "replicate", "circular")


def pad(input: Operand, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Return the input with elements added at the ends of its last axes, or taken away where a width is negative.

    Args:
        input: what is padded; other modes than "constant" take one or two axes more than are padded.
        pad: widths before and behind, two for every axis, those of the last axis first.
        mode: "constant"; "reflect" mirrors at the end elements, "replicate" repeats them, "circular" goes round.
        value: what is added in mode "constant"; None: 0.
    """
    what = "pad"
    x = as_tensor(what, input)
    widths = [int(w) for w in pad]
    count = len(widths) // 2
    if mode not in MODES:
        raise ConfigError(f"{what}: mode is {mode!r}. Allowed: {', '.join(MODES)}.")
    if len(widths) % 2 or count > x.ndim:
        raise ConfigError(
            f"{what}: pad is {tuple(widths)} for {x.node.type!r}. Give two widths per axis, those of the last axis "
            f"first: at most {2 * x.ndim} here."
        )
    pairs = [(0, 0)] * (x.ndim - count) + [(widths[2 * k], widths[2 * k + 1]) for k in reversed(range(count))]
    if any(n + low + high < 0 for n, (low, high) in zip(x.shape, pairs, strict=True)):
        raise ShapeError(f"{what}: pad {tuple(widths)} takes more away than {x.node.type!r} has.")
    if mode == "constant":
        fill = 0 if value is None else value
        fill = fill if x.dtype.is_float else int(fill)
        x = pad_axes(x, [(max(low, 0), max(high, 0)) for low, high in pairs], value=fill)
    else:
        if value is not None and value != 0:
            raise ConfigError(f"{what}: value {value} has no meaning in mode {mode!r}. Leave it out.")
        if count not in (1, 2, 3) or x.ndim not in (count + 1, count + 2):
            raise ShapeError(
                f"{what}: mode {mode!r} pads one to three axes of a tensor with one or two axes more; given "
                f"{x.node.type!r} and pad {tuple(widths)}."
            )
        if mode == "circular":  # what is taken away does not come round
            x = _cropped(x, pairs)
        for axis, (low, high) in enumerate(pairs):
            if max(low, high) > 0:
                x = made(Op.registry["extend"](axis, max(low, 0), max(high, 0), mode)(node_of(x)), x)
    return x if mode == "circular" else _cropped(x, pairs)


def _cropped(x: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Return x less what negative widths take away."""
    if all(w >= 0 for pair in pairs for w in pair):
        return x
    return x[tuple(slice(max(-low, 0), n - max(-high, 0)) for n, (low, high) in zip(x.shape, pairs, strict=True))]
