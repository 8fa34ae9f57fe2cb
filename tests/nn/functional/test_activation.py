"""Activation functions against PyTorch's: values and slopes, at corners and far out, too; one kernel each."""

import math

import numpy as np
import pytest

import treadle as td
from tests.nn.functional.peer import agree, draw
from treadle.core import ConfigError, DTypeError, ShapeError
from treadle.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional

# Name and positional arguments, the same in both.
CASES = [
    ("relu",), ("relu6",), ("leaky_relu",), ("leaky_relu", 0.3), ("leaky_relu", -0.5), ("elu",), ("elu", 0.7),
    ("selu",), ("celu",), ("celu", 1.7), ("celu", -2.0), ("gelu",), ("silu",), ("mish",), ("softplus",),
    ("softplus", 3.0, 0.2),
    ("softplus", 0.5, 100.0), ("softsign",), ("tanhshrink",), ("softshrink",), ("softshrink", 0.0), ("softshrink", 2.0),
    ("hardshrink",), ("hardshrink", 0.0), ("hardshrink", 2.0), ("hardtanh",), ("hardtanh", -2.0, 0.5), ("hardswish",),
    ("hardsigmoid",), ("logsigmoid",), ("threshold", 0.5, 2.0), ("threshold", -1.0, 0.0), ("rrelu",),
    ("rrelu", 0.1, 0.4), ("sigmoid",), ("tanh",),
]  # fmt: skip
# The corners of all of them, both sides of zero, and numbers at which exp over- or underflows.
POINTS = np.array(
    [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 6.0, -6.0, 0.2, -0.2, 1e-6, -1e-6, 20.0, -20.0, 25.0, 88.0,
     -88.0, 1e4, -1e4],
    np.float32,
)  # fmt: skip
SHAPES = [(), (1,), (0,), (3, 0), (7,), (2, 3, 5)]


def theirs(name: str, *args: float):
    function = getattr(torch, name) if name in ("sigmoid", "tanh") else getattr(TF, name)
    return lambda x: function(x, *args)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_slopes(case):
    name, *args = case
    x = np.concatenate([POINTS, draw(40) * 3])
    rtol = 1e-4 if name in ("mish", "gelu", "softsign", "tanhshrink") else 2e-5
    agree(lambda x: getattr(F, name)(x, *args), theirs(name, *args), x, rtol=rtol, compiled=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float64(case):
    name, *args = case
    rtol = 1e-7 if name in ("celu", "hardsigmoid") else 1e-12  # PyTorch rounds 1 / alpha and 1 / 6 to float32
    x = draw(20, dtype=np.float64)
    agree(lambda x: getattr(F, name)(x, *args), theirs(name, *args), x, rtol=rtol, atol=rtol / 10)


@pytest.mark.parametrize("name", ["hardswish", "softshrink", "hardshrink", "leaky_relu"])
def test_zeros_have_pytorchs_sign(name):
    x = np.array([0.0, -0.0, 0.25, -0.25, -3, -5, 3], np.float32)
    want = theirs(name)(torch.tensor(x)).numpy()
    np.testing.assert_array_equal(np.signbit(getattr(F, name)(td.asarray(x)).numpy()), np.signbit(want))


@pytest.mark.parametrize("name", ["relu", "elu", "hardswish", "softshrink", "mish"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(name, shape):
    agree(getattr(F, name), getattr(TF, name), draw(*shape))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nan_stays(case):
    name, *args = case
    x = np.array([math.nan, 1.0], np.float32)
    found = np.asarray(getattr(F, name)(td.asarray(x), *args))
    assert np.isnan(found).tolist() == [True, False]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_short_floats(case, dtype):
    name, *args = case
    x = draw(50) * 3
    found = getattr(F, name)(td.asarray(x).astype(dtype), *args)
    assert found.dtype.name == dtype
    expected = theirs(name, *args)(torch.tensor(x).to(getattr(torch, dtype))).float().numpy()
    tolerance = {"float16": 2e-3, "bfloat16": 2e-2}[dtype]
    np.testing.assert_allclose(np.asarray(found.astype("float32")), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_kernel_there_and_one_back(case):
    name, *args = case

    def both(x):
        return td.value_and_grad(lambda x: (getattr(F, name)(x, *args)).sum())(x)[1]

    assert kernels(lambda x: getattr(F, name)(x, *args), draw(8, 16)) == 1
    assert kernels(both, draw(8, 16)) == 1


def kernels(function, *arrays) -> int:
    """Return how many kernels a function becomes."""
    return len(td.compile(function).plan(*arrays).steps)


SMOOTH = ["elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "logsigmoid", "tanhshrink", "softsign"]


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivatives(name):
    x = draw(12, dtype=np.float64)
    t = torch.tensor(x, requires_grad=True)
    (first,) = torch.autograd.grad((getattr(TF, name)(t) ** 2).sum(), t, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), t)

    def slope(x):
        return td.grad(lambda x: (getattr(F, name)(x) ** 2).sum())(x).sum()

    np.testing.assert_allclose(np.asarray(td.grad(slope)(td.asarray(x))), second.numpy(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["relu", "relu6", "hardtanh", "threshold"])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers_stay_integers(name, dtype):
    args = (3, 1) if name == "threshold" else ()
    x = np.arange(-4, 9).astype(dtype)
    found = getattr(F, name)(td.asarray(x), *args)
    assert found.dtype.name == dtype
    np.testing.assert_array_equal(np.asarray(found), getattr(TF, name)(torch.tensor(x), *args).numpy())


PRELU = [((4,), 1), ((2, 3), 1), ((2, 3), 3), ((2, 3, 4), 3), ((0, 3), 3), ((), 1)]


@pytest.mark.parametrize(("shape", "count"), PRELU)
def test_prelu(shape, count):
    x = draw(*shape)
    if x.size > 2:
        x.reshape(-1)[0] = 0
    agree(F.prelu, TF.prelu, x, draw(count, seed=1))


def test_prelu_at_infinity():
    x = np.array([[math.inf, -1.0]], np.float32)
    agree(F.prelu, TF.prelu, x, np.array([0.0], np.float32))


@pytest.mark.parametrize(("shape", "dim"), [((4,), -1), ((3, 6), 1), ((4, 3), 0), ((2, 4, 3), -2), ((0, 4), 1)])
def test_glu(shape, dim):
    agree(lambda x: F.glu(x, dim), lambda x: TF.glu(x, dim), draw(*shape), compiled=True)


def test_rrelu_draws_slopes_from_its_range():
    x = -np.ones(4000, np.float32)
    generator = td.random.Generator(1)
    found = -np.asarray(F.rrelu(x, 0.2, 0.6, training=True, generator=generator))
    assert found.min() >= 0.2
    assert found.max() < 0.6
    assert abs(found.mean() - 0.4) < 0.01
    np.testing.assert_array_equal(np.asarray(F.rrelu(np.abs(x), training=True)), 1)
    again = -np.asarray(F.rrelu(x, 0.2, 0.6, training=True, generator=generator.manual_seed(1)))
    np.testing.assert_array_equal(again, found)


def one(*shape: int) -> td.Tensor:
    return td.ones(shape)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.gelu(one(1), approximate="fast"), ConfigError, r"approximate is 'fast'\. Allowed: none, tanh"),
        (lambda: F.celu(one(1), 0.0), ConfigError, "celu: alpha is 0"),
        (lambda: F.softshrink(one(1), -1.0), ConfigError, r"lambd is -1\.0\. It must be at least 0"),
        (lambda: F.hardtanh(one(1), 1.0, 0.0), ConfigError, r"min_val 1\.0 is above max_val 0\.0"),
        (lambda: F.rrelu(one(1), 1.0, 0.0), ConfigError, r"lower 1\.0 is above upper 0\.0"),
        (lambda: F.prelu(one(2, 3), one(2)), ShapeError, r"weight f32\[2\] does not fit input f32\[2,3\]"),
        (lambda: F.prelu(one(3), one(3)), ShapeError, r"weight f32\[3\] does not fit input f32\[3\]"),
        (lambda: F.glu(one(3)), ShapeError, r"axis -1 of f32\[3\] has an odd size"),
        (lambda: F.glu(one()), ShapeError, "a scalar has no halves"),
        (lambda: F.gumbel_softmax(one(3), 0.0), ConfigError, r"tau is 0\.0\. It must be above 0"),
        (lambda: F.softmax(td.asarray([1, 2])), DTypeError, "softmax: does not take int64"),
        (lambda: F.relu("x"), DTypeError, "relu: cannot take a str"),
    ],
)  # fmt: skip
def test_wrong_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
