"""Sampling at the places of a grid against PyTorch's: modes, what is outside, gradients for images and grids."""

import itertools

import numpy as np
import pytest

import treadle as td
from tests.nn.functional.peer import agree, draw
from treadle.core import ConfigError, DTypeError, ShapeError
from treadle.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional

PADDINGS = ("zeros", "border", "reflection")
SETTINGS = [
    (mode, padding, corners)
    for mode, padding, corners in itertools.product(("bilinear", "nearest", "bicubic"), PADDINGS, (False, True))
]


def grid(*shape: int, dtype=np.float64) -> np.ndarray:
    """Return places inside and outside."""
    return np.random.default_rng(1).uniform(-2.4, 2.4, shape).astype(dtype)


def check(settings, x, at, **tolerances):
    if settings[0] == "nearest":  # flat in the grid: there is no gradient to compare
        theirs = lambda x, at: TF.grid_sample(x, at, *settings)  # noqa: E731
        agree(lambda x, at: F.grid_sample(x, at, *settings), theirs, x, fixed=(at,), **tolerances)
    else:
        agree(lambda x, at: F.grid_sample(x, at, *settings), lambda x, at: TF.grid_sample(x, at, *settings), x, at,
              **tolerances)  # fmt: skip


@pytest.mark.parametrize("settings", [*SETTINGS[:12], *SETTINGS[13::2]], ids=str)
def test_images(settings):
    check(settings, draw(2, 3, 5, 6, dtype=np.float64), grid(2, 4, 7, 2), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("settings", [s for s in SETTINGS[::3] if s[0] != "bicubic"], ids=str)
def test_volumes(settings):
    check(settings, draw(2, 2, 3, 4, 5, dtype=np.float64), grid(2, 2, 3, 4, 3), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("settings", SETTINGS[::3], ids=str)
@pytest.mark.parametrize(
    ("shape", "places"), [((1, 1, 1, 1), (1, 2, 3, 2)), ((2, 2, 1, 4), (2, 2, 1, 2)), ((0, 3, 4, 4), (0, 2, 2, 2))]
)
def test_small_images(settings, shape, places):
    check(settings, draw(*shape), grid(*places, dtype=np.float32), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_a_compiled_function(mode):
    x, at = draw(2, 3, 5, 6), grid(2, 4, 4, 2, dtype=np.float32)
    found = td.compile(lambda x, at: F.grid_sample(x, at, mode))(x, at)
    expected = TF.grid_sample(torch.tensor(x), torch.tensor(at), mode, align_corners=False)
    np.testing.assert_allclose(np.asarray(found), expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_short_floats_are_sampled_in_float32(dtype):
    x = td.asarray(draw(1, 2, 4, 4)).astype(dtype)
    at = td.asarray(grid(1, 3, 3, 2) / 3).astype(dtype)
    found = F.grid_sample(x, at)
    assert found.dtype.name == dtype
    wide = F.grid_sample(x.astype("float32"), at.astype("float32"))
    np.testing.assert_array_equal(np.asarray(found.astype("float32")), np.asarray(wide.astype(dtype).astype("float32")))


def test_zeros_outside_are_no_products():
    x = np.full((1, 1, 3, 3), np.inf, np.float32)
    far = np.full((1, 1, 1, 2), -3.0, np.float32)
    assert float(F.grid_sample(x, far)[0, 0, 0, 0]) == 0
    assert float(F.grid_sample(x, far, "nearest")[0, 0, 0, 0]) == 0


def test_the_identity_gives_the_image_back():
    x = draw(2, 3, 5, 6)
    theta = np.tile(np.eye(2, 3, dtype=np.float32), (2, 1, 1))
    for corners in (False, True):
        at = F.affine_grid(theta, x.shape, corners)
        np.testing.assert_allclose(np.asarray(F.grid_sample(x, at, align_corners=corners)), x, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Since version 1.3.0")  # PyTorch's, of images of one element
@pytest.mark.parametrize("corners", [None, True, False])
@pytest.mark.parametrize(
    ("theta", "size"),
    [((2, 2, 3), (2, 1, 4, 5)), ((1, 3, 4), (1, 2, 2, 3, 4)), ((2, 2, 3), (2, 1, 1, 1))],
)
def test_affine_grid(theta, size, corners):
    for dtype in (np.float32, np.float64):
        agree(
            lambda m: F.affine_grid(m, size, corners),
            lambda m: TF.affine_grid(m, size, bool(corners)),
            draw(*theta, dtype=dtype),
        )


def x(*shape: int) -> td.Tensor:
    return td.ones(shape)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.grid_sample(x(1, 1, 2, 2), x(1, 1, 1, 2), "cubic"), ConfigError, "mode is 'cubic'"),
        (lambda: F.grid_sample(x(1, 1, 2, 2), x(1, 1, 1, 2), "nearest", "wrap"), ConfigError, "padding_mode is 'wrap'"),
        (lambda: F.grid_sample(x(2, 1, 2, 2), x(1, 1, 1, 2)), ShapeError, r"grid f32\[1,1,1,2\] do not fit"),
        (lambda: F.grid_sample(x(1, 1, 2, 2), x(1, 1, 1, 3)), ShapeError, r"grid f32\[1,1,1,3\] do not fit"),
        (lambda: F.grid_sample(x(1, 2, 2), x(1, 1, 1, 2)), ShapeError, r"input f32\[1,2,2\]"),
        (lambda: F.grid_sample(x(1, 1, 0, 2), x(1, 1, 1, 2)), ShapeError, "no elements to sample"),
        (lambda: F.grid_sample(x(1, 1, 2, 2).astype("float64"), x(1, 1, 1, 2)), DTypeError, "float64 and grid float32"),
        (lambda: F.grid_sample(x(1, 1, 2, 2, 2), x(1, 1, 1, 1, 3), "bicubic"), ConfigError, "'bicubic' is for"),
        (lambda: F.affine_grid(x(1, 2, 3), (2, 1, 4, 4)), ShapeError, r"theta f32\[1,2,3\] and size \(2, 1, 4, 4\)"),
        (lambda: F.affine_grid(x(1, 2, 3), (1, 1, 0, 4)), ShapeError, "all sizes at least 1"),
        (lambda: F.affine_grid(x(1, 2, 3).astype("int32"), (1, 1, 4, 4)), DTypeError, "theta is int32"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
