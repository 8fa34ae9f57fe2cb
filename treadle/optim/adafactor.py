"""Adafactor: Adam's second moment of a matrix kept as one number per row and one per column."""

from __future__ import annotations

from treadle.core import ConfigError
from treadle.tensor import Cell, Tensor
from treadle.tensor.creation import zeros
from treadle.tensor.data_types import finfo
from treadle.tensor.elementwise import maximum, minimum, rsqrt, sqrt

from .optimizer import Group, Optimizer, Params, Rate, State, state_dtype
from .settings import at_least_zero, check_implementation


class Adafactor(Optimizer):
    """Adafactor (Shazeer & Stern 2018, arXiv:1804.04235, algorithm 4 and 5), with PyTorch's settings.

    b = 1 - t^beta2_decay;  R' = b R + (1 - b) row means of g^2,  C' = b C + (1 - b) column means of g^2
    v = R' C' / max(mean of R', eps1), of a vector b v + (1 - b) g^2
    u = g / max(sqrt(v), eps1)
    step = -max(eps2, rms(p)) min(lr, 1 / sqrt(t)) u / max(1, rms(u) / d) - lr weight_decay p

    eps1 is eps[0], that of the dtype when None. Of tensors with more axes the last two are rows and columns.
    """

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **implementation: bool | None,
    ) -> None:
        check_implementation("Adafactor", implementation)
        at_least_zero("Adafactor", eps2=eps[1], weight_decay=weight_decay, eps1=eps[0] or 0.0)
        if not beta2_decay <= 0:
            raise ConfigError(f"Adafactor: beta2_decay is {beta2_decay}. It must be at most 0.")
        if not d >= 1:
            raise ConfigError(f"Adafactor: d is {d}. It must be at least 1.")
        options = {"beta2_decay": beta2_decay, "eps": tuple(eps), "d": d, "weight_decay": weight_decay}
        super().__init__(params, lr, {**options, "maximize": maximize})

    def first(self, group: Group, parameter: Cell) -> State:
        """Return zeros, one per row and one per column; of a vector one per element."""
        shape, wide = parameter.shape, state_dtype(parameter.dtype)
        if len(shape) < 2:
            return {"variance": zeros(shape, dtype=wide)}
        return {
            "row_var": zeros((*shape[:-1], 1), dtype=wide),
            "col_var": zeros((*shape[:-2], 1, shape[-1]), dtype=wide),
        }

    def update(
        self, group: Group, lr: Tensor, count: Tensor, param: Tensor, grad: Tensor, held: State
    ) -> tuple[State, Tensor]:
        """Return the state and the step of the equations above."""
        eps1, eps2 = group.eps
        least = float(finfo(param.dtype).eps) if eps1 is None else eps1
        new_share = count**group.beta2_decay
        square = grad * grad
        if "variance" in held:
            new = {"variance": _towards(held["variance"], square, new_share)}
            v = new["variance"]
        else:
            rows = _towards(held["row_var"], square.mean(axis=-1, keepdims=True), new_share)
            columns = _towards(held["col_var"], square.mean(axis=-2, keepdims=True), new_share)
            new = {"row_var": rows, "col_var": columns}
            v = rows * columns / maximum(rows.mean(axis=-2, keepdims=True), least)
        step = rsqrt(maximum(v, least * least)) * grad
        rate = minimum(lr, rsqrt(count)) * maximum(_rms(param), eps2) / maximum(_rms(step) / group.d, 1.0)
        change = -rate * step
        return new, change - lr * group.weight_decay * param if group.weight_decay else change


def _towards(old: Tensor, new: Tensor, share: Tensor) -> Tensor:
    return old + (new - old) * share


def _rms(x: Tensor) -> Tensor:
    """Return the root of the mean square of all elements."""
    return sqrt((x * x).mean())
