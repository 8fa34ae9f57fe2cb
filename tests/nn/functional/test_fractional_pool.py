"""Fractional max pooling: PyTorch's for given samples, and where drawn windows may lie."""

import numpy as np
import pytest

import treadle as td
from tests.nn.functional.peer import agree, draw
from treadle.core import ConfigError, ShapeError
from treadle.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional

# Axes, shape, kernel, windows.
CASES = [
    (2, (2, 3, 9, 8), (2, 3), (4, 5)), (2, (1, 1, 7, 7), 2, 1), (2, (3, 10, 12), 3, (5, 7)), (2, (1, 2, 4, 4), 1, 4),
    (3, (2, 2, 8, 9, 10), (2, 1, 3), (4, 5, 6)), (3, (2, 6, 6, 6), 2, 3),
]  # fmt: skip


@pytest.mark.parametrize(("count", "shape", "kernel", "size"), CASES, ids=str)
def test_the_same_windows_for_the_same_samples(count, shape, kernel, size):
    name = f"fractional_max_pool{count}d"
    ours, theirs = getattr(F, name), getattr(TF, name)
    x = draw(*shape)
    lead = shape[:2] if len(shape) == count + 2 else (1, shape[0])
    u = np.random.default_rng(2).random((*lead, count), np.float32)
    agree(
        lambda x, u: ours(x, kernel, size, _random_samples=u),
        lambda x, u: theirs(x, kernel, size, _random_samples=u),
        x,
        fixed=(u,),
        compiled=count == 2,
    )
    _, at = getattr(F, f"{name}_with_indices")(x, kernel, size, _random_samples=u)
    _, expected = theirs(torch.tensor(x), kernel, size, return_indices=True, _random_samples=torch.tensor(u))
    assert at.dtype.name == "int64"
    np.testing.assert_array_equal(np.asarray(at), expected.numpy())


def test_drawn_windows_rise_and_reach_the_end():
    x = np.broadcast_to(np.arange(20, dtype=np.float32), (4, 3, 20, 20))
    generator = td.random.Generator(3)
    found = np.asarray(F.fractional_max_pool2d(x, 2, output_ratio=0.7, generator=generator))
    assert found.shape == (4, 3, 14, 14)
    assert (found[..., -1] == 19).all()
    assert set(np.diff(found, axis=-1).ravel()) <= {1.0, 2.0}
    assert (found[0] != found[1]).any()  # each channel has windows of its own
    again = np.asarray(F.fractional_max_pool2d(x, 2, output_ratio=0.7, generator=generator.manual_seed(3)))
    np.testing.assert_array_equal(found, again)


def x(*shape: int) -> td.Tensor:
    return td.ones(shape)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.fractional_max_pool2d(x(1, 4, 4), 2), ConfigError, "output_size is None, output_ratio is None"),
        (lambda: F.fractional_max_pool2d(x(1, 4, 4), 2, 2, 0.5), ConfigError, "Give one of the two"),
        (lambda: F.fractional_max_pool2d(x(1, 4, 4), 2, output_ratio=1.5), ConfigError, r"output_ratio is 1\.5"),
        (lambda: F.fractional_max_pool2d(x(1, 4, 4), 2, 4), ShapeError, r"Allowed: up to \[3, 3\]"),
        (lambda: F.fractional_max_pool3d(x(4, 4), 2, 2), ShapeError, "3 axes behind the channels"),
        (lambda: F.fractional_max_pool2d(x(1, 4, 4), 2, 2, None, False, x(1, 2)), ShapeError, r"shape \[1, 1, 2\]"),
    ],
)
def test_what_does_not_fit_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
