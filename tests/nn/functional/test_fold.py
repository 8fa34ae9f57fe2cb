"""Windows as columns and back, pixels and channels shuffled, against PyTorch's."""

import itertools

import numpy as np
import pytest

import treadle as td
from tests.nn.functional.peer import agree, draw
from treadle.core import ConfigError, DTypeError, ShapeError
from treadle.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional

SHAPES = [(2, 3, 5, 6), (3, 5, 6), (0, 3, 5, 6), (1, 1, 1, 1), (1, 2, 7, 4)]
# Kernel, dilation, padding, stride.
WINDOWS = [
    (1, 1, 0, 1), (2, 1, 0, 1), (2, 1, 1, 2), (3, 1, 1, 1), ((2, 3), 1, (1, 2), (2, 1)), (2, 2, 1, 1),
    ((1, 2), (1, 3), 2, 3),
]  # fmt: skip


def count(n, k, d, p, s):
    return (n + 2 * p - d * (k - 1) - 1) // s + 1


def both(value):
    return (value, value) if isinstance(value, int) else value


@pytest.mark.parametrize("windows", WINDOWS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_unfold(shape, windows):
    x = draw(*shape)
    if min(count(n, *each) for n, *each in zip(shape[-2:], *map(both, windows), strict=True)) < 1:
        with pytest.raises(ShapeError, match="do not fit"):
            F.unfold(x, *windows)
        return
    agree(lambda x: F.unfold(x, *windows), lambda x: TF.unfold(x, *windows), x)


@pytest.mark.parametrize("windows", WINDOWS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fold(shape, windows):
    per_axis = list(zip(shape[-2:], *map(both, windows), strict=True))
    counts = [count(n, *each) for n, *each in per_axis]
    if min(counts) < 1:
        return
    kernel = both(windows[0])
    x = draw(*shape[:-3], shape[-3] * kernel[0] * kernel[1], counts[0] * counts[1])
    size = shape[-2:]
    agree(lambda x: F.fold(x, size, *windows), lambda x: TF.fold(x, size, *windows), x)


def test_fold_is_unfolds_transpose():
    x, y = draw(2, 3, 6, 5, dtype=np.float64), draw(2, 27, 12, seed=1, dtype=np.float64)
    there = (F.unfold(x, 3) * y).sum()
    back = (F.fold(y, (6, 5), 3) * x).sum()
    assert float(there) == pytest.approx(float(back), rel=1e-12)


def test_both_inside_a_compiled_function():
    x = draw(2, 3, 6, 6)
    found = td.compile(lambda x: F.fold(F.unfold(x, 3, 1, 1), 6, 3, 1, 1))(x)
    expected = TF.fold(TF.unfold(torch.tensor(x), 3, 1, 1), 6, 3, 1, 1)
    np.testing.assert_allclose(np.asarray(found), expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_dtypes(dtype):
    t = torch.tensor(draw(1, 2, 4, 5)).to(getattr(torch, dtype))
    x = td.asarray(t.double().numpy()).astype(dtype)
    columns, expected = F.unfold(x, 2), TF.unfold(t, 2)
    assert columns.dtype.name == dtype
    np.testing.assert_array_equal(np.asarray(columns.astype("float64")), expected.double().numpy())
    again = F.fold(columns, (4, 5), 2)
    tolerance = {"float64": 1e-15, "float16": 2e-3, "bfloat16": 2e-2}[dtype]
    np.testing.assert_allclose(
        np.asarray(again.astype("float64")), TF.fold(expected, (4, 5), 2).double().numpy(), rtol=tolerance
    )


SHUFFLES = [
    ("pixel_shuffle", (2, 8, 3, 5), 2), ("pixel_shuffle", (9, 1, 2), 3), ("pixel_shuffle", (2, 2, 4, 1, 3), 2),
    ("pixel_shuffle", (0, 4, 2, 2), 2), ("pixel_shuffle", (1, 3, 2, 2), 1), ("pixel_unshuffle", (2, 2, 6, 4), 2),
    ("pixel_unshuffle", (1, 9, 3), 3), ("pixel_unshuffle", (2, 1, 3, 4, 4), 4), ("channel_shuffle", (2, 6, 3), 3),
    ("channel_shuffle", (1, 4, 2, 2), 2), ("channel_shuffle", (0, 4, 1, 2, 3), 4), ("channel_shuffle", (2, 5, 3), 1),
    ("native_channel_shuffle", (2, 6, 3, 2), 2),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape", "by"), SHUFFLES, ids=str)
def test_shuffles(name, shape, by):
    ours, theirs = getattr(F, name), getattr(TF, name)
    if 0 not in shape and not name.startswith("native"):  # PyTorch has no gradients for these
        agree(lambda x: ours(x, by), lambda x: theirs(x, by), draw(*shape), rtol=0, atol=0)
    whole = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    np.testing.assert_array_equal(np.asarray(ours(whole, by)), theirs(torch.tensor(whole), by).numpy())


def test_pixels_go_there_and_back():
    for r, shape in itertools.product((1, 2, 3), ((1, 9, 6, 6), (4, 6, 12))):
        x = draw(*shape)
        np.testing.assert_array_equal(np.asarray(F.pixel_shuffle(F.pixel_unshuffle(x, r), r)), x)


def x(*shape: int) -> td.Tensor:
    return td.ones(shape)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.unfold(x(5, 5), 2), ShapeError, r"unfold: input f32\[5,5\] must be \[N, C, H, W\]"),
        (lambda: F.unfold(x(2, 0, 5, 5), 2), ShapeError, "only N may be 0"),
        (lambda: F.unfold(x(1, 1, 2, 2), 3), ShapeError, "windows of 3 elements, 1 apart, do not fit 2 elements"),
        (lambda: F.unfold(x(1, 1, 4, 4), (1, 2, 3)), ConfigError, r"kernel_size is \(1, 2, 3\)\. Give one"),
        (lambda: F.unfold(x(1, 1, 4, 4), 0), ConfigError, r"kernel_size is \(0, 0\)\. Every number must be"),
        (lambda: F.unfold(x(1, 1, 4, 4), 2, padding=-1), ConfigError, "padding is .* at least 0"),
        (lambda: F.fold(x(1, 8, 10), (4, 4), 2), ShapeError, r"fold: input f32\[1,8,10\] must be \[N, C \* 4, 9\]"),
        (lambda: F.fold(x(1, 7, 9), (4, 4), 2), ShapeError, "2 x 2 elements of 3 x 3 windows"),
        (lambda: F.fold(x(1, 4, 9).astype("bool"), 4, 2), DTypeError, "fold: adds numbers, not truth values"),
        (lambda: F.pixel_shuffle(x(6, 2, 2), 2), ShapeError, r"a multiple of upscale_factor\^2, 4"),
        (lambda: F.pixel_unshuffle(x(1, 3, 4), 2), ShapeError, "multiples of downscale_factor, 2"),
        (lambda: F.channel_shuffle(x(1, 4, 4), 3), ConfigError, "groups, 3, divide C"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
