"""Axes made longer by their own elements: the longest widths, exact gradients, what does not fit."""

import numpy as np
import pytest

from tests.ops.apply import gradients, lowered
from treadle.core import ConfigError, ShapeError, Type, float32
from treadle.ops import Extend

MODES = ("reflect", "replicate", "circular")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_every_width_there_is(mode: str, n: int) -> None:
    most = {"reflect": n - 1, "replicate": n + 2, "circular": n}[mode]
    x = np.random.default_rng(0).integers(-9, 9, (2, n, 3)).astype(np.float32)
    for low in range(most + 1):
        for high in range(most + 1):
            op = Extend(1, low, high, mode)
            value = op.eval(x)
            np.testing.assert_array_equal(lowered(op, x), value)
            ct = np.random.default_rng(1).integers(-9, 9, value.shape).astype(np.float32)
            (back,) = gradients(op, [x], ct)
            assert back is not None
            assert float((back * x).sum()) == float((ct * value).sum())  # the transposed map, exactly


@pytest.mark.parametrize(
    ("op", "error", "message"),
    [
        (Extend(1, 4, 0, "reflect"), ShapeError, r"pad: reflect widths 4 and 0 do not fit axis 1 .* Allowed: 0 to 3"),
        (Extend(1, 0, 5, "circular"), ShapeError, "Allowed: 0 to 4"),
        (Extend(1, -1, 0, "replicate"), ShapeError, "widths -1 and 0"),
        (Extend(2, 1, 0, "reflect"), ShapeError, r"axes \(2,\) do not fit"),
        (Extend(0, 1, 0, "mirror"), ConfigError, r"mode is 'mirror'\. Allowed: reflect, replicate, circular"),
    ],
)
def test_what_does_not_fit_is_named(op: Extend, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        op.infer(Type(float32, (2, 4)))
