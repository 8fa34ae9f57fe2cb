"""Other sizes against PyTorch's: every mode, scales that do not divide, antialiasing, whole numbers to the last bit."""

import itertools
import warnings

import numpy as np
import pytest

import treadle as td
from tests.nn.functional.peer import agree, draw
from treadle.core import ConfigError, DTypeError, ShapeError
from treadle.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional

SIZES = [
    {"size": 4}, {"size": (7, 3)}, {"scale_factor": 2.0}, {"scale_factor": 0.6}, {"scale_factor": (1.7, 0.5)},
    {"scale_factor": 1.7, "recompute_scale_factor": True},
]  # fmt: skip
MODES = [
    {"mode": "nearest"}, {"mode": "nearest-exact"}, {"mode": "area"}, {"mode": "bilinear"}, {"mode": "bicubic"},
    {"mode": "bilinear", "align_corners": True}, {"mode": "bicubic", "align_corners": True},
    {"mode": "bilinear", "antialias": True}, {"mode": "bicubic", "antialias": True},
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_images(mode, size):
    for shape in ((2, 3, 5, 6), (1, 1, 2, 4)):
        x = draw(*shape, dtype=np.float64)
        agree(lambda x: F.interpolate(x, **mode, **size), lambda x: TF.interpolate(x, **mode, **size), x, atol=1e-7)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "area", "linear", "trilinear"])
@pytest.mark.parametrize("size", [{"size": 5}, {"scale_factor": 0.7}, {"scale_factor": 3}], ids=str)
def test_series_and_volumes(mode, size):
    for shape in ((2, 2, 7), (1, 2, 3, 4, 5)):
        if {"linear": 3, "trilinear": 5}.get(mode, len(shape)) == len(shape):
            agree(
                lambda x: F.interpolate(x, mode=mode, **size),
                lambda x: TF.interpolate(x, mode=mode, **size),
                draw(*shape, dtype=np.float64),
                atol=1e-7,
            )


@pytest.mark.parametrize("size", [{"size": (7, 3)}, {"scale_factor": 2.0}, {"scale_factor": (1.7, 0.5)}], ids=str)
@pytest.mark.parametrize("mode", [m for m in MODES if m["mode"] != "area"], ids=str)
def test_bytes_to_the_last_bit(mode, size):
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 11)).astype(np.uint8)
    x[0, 0] = np.where(x[0, 0] > 127, 255, 0)  # edges at which cubic kernels overshoot
    found = F.interpolate(x, **mode, **size)
    assert found.dtype.name == "uint8"
    np.testing.assert_array_equal(np.asarray(found), TF.interpolate(torch.tensor(x), **mode, **size).numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("mode", [m for m in MODES if not m.get("antialias")], ids=str)
def test_short_floats(mode, dtype):
    t = torch.tensor(draw(1, 2, 4, 5)).to(getattr(torch, dtype))
    found = F.interpolate(td.asarray(t.float().numpy()).astype(dtype), size=(6, 3), **mode)
    assert found.dtype.name == dtype
    expected = TF.interpolate(t, size=(6, 3), **mode).float().numpy()
    tolerance = {"float16": 4e-3, "bfloat16": 4e-2}[dtype]
    np.testing.assert_allclose(np.asarray(found.astype("float32")), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_compiled_function(mode):
    x = draw(1, 2, 5, 6)
    found = td.compile(lambda x: F.interpolate(x, size=(3, 8), **mode))(x)
    expected = TF.interpolate(torch.tensor(x), size=(3, 8), **mode)
    np.testing.assert_allclose(np.asarray(found), expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["upsample", "upsample_nearest", "upsample_bilinear"])
def test_the_older_names(name):
    x = draw(1, 2, 3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's are deprecated
        for size in ({"size": (5, 6)}, {"scale_factor": 2}):
            agree(lambda x, s=size: getattr(F, name)(x, **s), lambda x, s=size: getattr(TF, name)(x, **s), x)


def test_nothing_to_resize():
    for mode, size in itertools.product(("nearest", "bilinear", "bicubic", "area"), (3, (8, 2))):
        assert F.interpolate(td.ones((0, 3, 4, 4)), size, mode=mode).shape[:2] == (0, 3)
    assert F.interpolate(td.ones((1, 2, 4, 4)), 0, mode="area").shape == (1, 2, 0, 0)


def x(*shape: int) -> td.Tensor:
    return td.ones(shape)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.interpolate(x(1, 1, 4, 4), 2, mode="cubic"), ConfigError, "mode is 'cubic'"),
        (lambda: F.interpolate(x(1, 1, 4), 2, mode="bilinear"), ShapeError, "2 axes behind the channels"),
        (lambda: F.interpolate(x(4, 4), 2), ShapeError, "1 to 3 axes behind the channels"),
        (lambda: F.interpolate(x(1, 1, 4, 4)), ConfigError, "size is None, scale_factor is None"),
        (lambda: F.interpolate(x(1, 1, 4, 4), 2, 2.0), ConfigError, "Give one of the two"),
        (lambda: F.interpolate(x(1, 1, 4, 4), (2, 2, 2)), ConfigError, r"size is \(2, 2, 2\)\. Give one number, or 2"),
        (lambda: F.interpolate(x(1, 1, 4, 4), 0), ShapeError, r"cannot become \[0, 0\]"),
        (lambda: F.interpolate(x(1, 1, 4, 4), 2, align_corners=True), ConfigError, "align_corners has no meaning"),
        (lambda: F.interpolate(x(1, 1, 4, 4), 2, antialias=True), ConfigError, "antialias is for modes bilinear"),
        (lambda: F.interpolate(x(1, 1, 4, 4), 2, recompute_scale_factor=True), ConfigError, "recompute_scale_factor"),
        (lambda: F.interpolate(x(1, 1, 4, 4).astype("int32"), 2, mode="bilinear"), DTypeError, "floats or uint8"),
    ],
)
def test_what_does_not_fit_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
