"""Padding against PyTorch's: every mode, widths that add and take away, gradients of any order, what does not fit."""

import itertools

import numpy as np
import pytest

import treadle as td
from tests.nn.functional.peer import agree, draw
from treadle.core import ConfigError, ShapeError
from treadle.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional

MODES = ("constant", "reflect", "replicate", "circular")
OWN = MODES[1:]
# Shapes, and widths that fit all modes.
CASES = [
    ((2, 5), (1, 2)), ((2, 3, 4), (2, 0)), ((0, 3, 4), (1, 1)), ((1, 1, 4), (0, 3)), ((2, 3, 4), (-1, 2)),
    ((2, 3, 4), (1, -2)), ((2, 3, 4), (-1, -1)), ((2, 3, 4), (1, 2, 0, 1)), ((1, 2, 3, 4), (3, 3, 2, 2)),
    ((2, 1, 3, 4), (-1, 1, 1, -1)), ((1, 2, 3, 4), (2, 0, 0, 2, 1, 1)), ((1, 1, 2, 3, 4), (1, 1, 2, 1, 1, 0)),
]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("shape", "widths"), CASES, ids=str)
def test_values_and_gradients(shape, widths, mode):
    x = draw(*shape)
    compiled = len(widths) == 4
    agree(lambda x: F.pad(x, widths, mode), lambda x: TF.pad(x, widths, mode), x, rtol=0, atol=1e-6, compiled=compiled)


@pytest.mark.parametrize("widths", [(), (1, 1), (2, -1, 0, 1), (1, 0, 0, 2, 1, 1, 3, 0), (-1, -1, 0, 0, 1, 1)], ids=str)
def test_a_constant_pads_any_axes(widths):
    x = draw(2, 3, 4, 5)
    agree(lambda x: F.pad(x, widths, value=2.5), lambda x: TF.pad(x, widths, value=2.5), x, rtol=0, atol=0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int64", "uint8"])
def test_dtypes(mode, dtype):
    t = torch.tensor(draw(1, 2, 4) * 5 + 20).to(getattr(torch, dtype))
    found = F.pad(td.asarray(t.float().numpy()).astype(dtype), (2, 1), mode)
    assert found.dtype.name == dtype
    np.testing.assert_array_equal(np.asarray(found.astype("float32")), TF.pad(t, (2, 1), mode).float().numpy())


@pytest.mark.parametrize("mode", MODES)
def test_views(mode):
    x = draw(5, 4, 3, 2).transpose(3, 2, 1, 0)[:, :, ::-1, 1:]
    expected = TF.pad(torch.tensor(x.copy()), (1, 2, 1, 0), mode)
    np.testing.assert_array_equal(np.asarray(F.pad(td.asarray(x), (1, 2, 1, 0), mode)), expected.numpy())


@pytest.mark.parametrize("mode", MODES)
def test_second_derivatives(mode):
    x = draw(1, 2, 4, dtype=np.float64)
    t = torch.tensor(x, requires_grad=True)
    (first,) = torch.autograd.grad((TF.pad(t, (2, 1), mode) ** 3).sum(), t, create_graph=True)
    (second,) = torch.autograd.grad((first**2).sum(), t)
    slope = td.grad(lambda x: (F.pad(x, (2, 1), mode) ** 3).sum())
    np.testing.assert_allclose(np.asarray(td.grad(lambda x: (slope(x) ** 2).sum())(x)), second.numpy(), rtol=1e-12)


def test_either_raises_or_both():
    shapes = ((3,), (2, 3), (1, 2, 4), (2, 1, 1), (2, 3, 4), (1, 2, 3, 4), (1, 1, 2, 3, 4))
    widths = ((1, 1), (4, 4), (3, 0), (1,), (1, 1, 1, 1), (1, 1, 1, 1, 1, 1), (-3, 0), (-1, -1, -1, -1))
    for shape, given, mode in itertools.product(shapes, widths, MODES):
        x = draw(*shape)
        try:
            expected = TF.pad(torch.tensor(x), given, mode).numpy()
        except (RuntimeError, NotImplementedError):
            continue  # sizes of 0 are results here, so this side may go on
        np.testing.assert_array_equal(np.asarray(F.pad(td.asarray(x), given, mode)), expected)


def x(*shape: int) -> td.Tensor:
    return td.ones(shape)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.pad(x(2, 3), (1, 1), "mirror"), ConfigError, r"mode is 'mirror'\. Allowed: constant, reflect"),
        (lambda: F.pad(x(2, 3), (1, 1, 1)), ConfigError, r"pad is \(1, 1, 1\) .* two widths per axis"),
        (lambda: F.pad(x(3), (1, 1, 1, 1)), ConfigError, "at most 2 here"),
        (lambda: F.pad(x(3), (-2, -2)), ShapeError, "takes more away"),
        (lambda: F.pad(x(3, 3), (1, 1), "reflect", 2.0), ConfigError, r"value 2\.0 has no meaning in mode 'reflect'"),
        (lambda: F.pad(x(3), (1, 1), "reflect"), ShapeError, r"one or two axes more; given f32\[3\]"),
        (lambda: F.pad(x(2, 3), (3, 0), "reflect"), ShapeError, r"axis 1 of f32\[2,3\]\. Allowed: 0 to 2"),
        (lambda: F.pad(x(2, 3), (4, 0), "circular"), ShapeError, r"axis 1 of f32\[2,3\]\. Allowed: 0 to 3"),
        (lambda: F.pad(x(2, 0), (1, 0), "replicate"), ShapeError, r"axis 1 of f32\[2,0\]\. Allowed: 0 to 0"),
    ],
)
def test_what_does_not_fit_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
