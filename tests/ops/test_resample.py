"""Elements taken at places that may be missing, added back there, and put at positions of max pooling."""

import numpy as np
import pytest

from treadle.core import DTypeError, ShapeError, Type, bool_, float32, int32, uint32
from treadle.ops import AddOrSkip, TakeOrZero, Unpool
from treadle.ops.base import TensorOp


def test_what_is_missing_is_zero_and_gets_nothing() -> None:
    x = np.array([[1, 2, 3]], np.float32)
    places = np.array([[2, -1, 0, 2, -7]], np.int32)
    np.testing.assert_array_equal(TakeOrZero().eval(x, places), [[3, 0, 1, 3, 0]])
    np.testing.assert_array_equal(AddOrSkip(3).eval(np.ones((1, 5), np.float32), places), [[1, 0, 2]])


def f(*shape: int) -> Type:
    return Type(float32, shape)


def i(*shape: int) -> Type:
    return Type(int32, shape)


@pytest.mark.parametrize(
    ("op", "types", "error", "message"),
    [
        (TakeOrZero(), (f(2, 3), i(3, 4)), ShapeError, r"places i32\[3,4\] do not fit f32\[2,3\]"),
        (TakeOrZero(), (f(2, 3), i(2)), ShapeError, "with its sizes but the last"),
        (TakeOrZero(), (f(2, 3), Type(uint32, (2, 4))), ShapeError, "They must be signed"),
        (TakeOrZero(), (f(2, 0), i(2, 4)), ShapeError, "nothing to take"),
        (TakeOrZero(), (Type(bool_, (2, 3)), i(2, 4)), DTypeError, "does not take bool"),
        (AddOrSkip(3), (f(2, 3), i(2, 4)), ShapeError, "must have one shape"),
        (AddOrSkip(0), (f(2, 3), i(2, 3)), ShapeError, "0 places"),
        (Unpool(4), (f(2, 3), i(2, 2)), ShapeError, r"values f32\[2,3\] and positions i32\[2,2\] must be \[R, K\]"),
        (Unpool(4), (f(2, 3), f(2, 3)), ShapeError, "positions integers"),
    ],
)
def test_what_does_not_fit_is_named(
    op: TensorOp, types: tuple[Type, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        op.infer(*types)
