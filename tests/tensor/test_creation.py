"""Making tensors: what is copied, what dtype comes out, which requests are refused."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import treadle as td
from treadle.core import DTYPES


def test_a_tensor_does_not_change_with_the_array_it_came_from() -> None:
    array = np.arange(100.0)
    copied, shared = td.asarray(array), td.asarray(array, copy=False)
    array[0] = 9
    assert copied[0].item() == 0
    assert shared[0].item() == 9
    assert shared.numpy().base is not None
    assert td.asarray(copied) is copied


def test_what_cannot_be_shared() -> None:
    with pytest.raises(ValueError, match=r"copy=False, but float64 data of shape .* is not C-contiguous"):
        td.asarray(np.zeros((2, 3)).T, copy=False)
    with pytest.raises(ValueError, match="must be converted to float32"):
        td.asarray(np.zeros(2), dtype=td.float32, copy=False)
    with pytest.raises(ValueError, match="Python numbers have no memory to share"):
        td.asarray([1.0], copy=False)


@pytest.mark.parametrize("view", ["transposed", "strided", "reversed", "foreign", "fortran", "big-endian"])
def test_any_layout(view: str) -> None:
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    array = {
        "transposed": x.T,
        "strided": x[::2, 1::2],
        "reversed": x[::-1],
        "foreign": np.frombuffer(x.tobytes(), np.float32),
        "fortran": np.asfortranarray(x),
        "big-endian": x.astype(">f4"),
    }[view]
    t = td.asarray(array)
    np.testing.assert_array_equal(t.numpy(), array)
    assert t.dtype is td.float32


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        (1, td.int64, ()),
        (1.5, td.float32, ()),
        (True, td.bool, ()),
        ([1, 2], td.int64, (2,)),
        ([1, 2.5], td.float32, (2,)),
        ([[True], [False]], td.bool, (2, 1)),
        ([], td.float32, (0,)),
        ([[], []], td.float32, (2, 0)),
        (range(3), td.int64, (3,)),
        ((1, (2)), td.int64, (2,)),
        (2**63, td.uint64, ()),
        (np.float64(1), td.float64, ()),
        (np.int8(1), td.int8, ()),
        ([np.float32(1), np.float32(2)], td.float32, (2,)),
        (b"ab", td.uint8, (2,)),
        (np.zeros(2, ml_dtypes.bfloat16), td.bfloat16, (2,)),
    ],
    ids=str,
)
def test_dtypes_of_data(data: Any, dtype: td.DType, shape: tuple[int, ...]) -> None:
    t = td.asarray(data)
    assert t.dtype is dtype
    assert t.shape == shape


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_goes_in_and_out(dtype: td.DType) -> None:
    array = np.array([0, 1, 1, 0], dtype.numpy)
    t = td.asarray(array)
    assert t.dtype is dtype
    assert t.numpy().dtype == dtype.numpy
    assert t.tolist() == [0, 1, 1, 0]
    assert td.asarray([0, 1], dtype=dtype).dtype is dtype
    assert td.asarray([0, 1]).astype(dtype.name).dtype is dtype
    assert td.asarray([0, 1]).to(dtype.numpy).dtype is dtype


def test_lists_of_tensors() -> None:
    x = td.asarray(1.5)
    assert td.asarray([x, x * 2]).tolist() == [1.5, 3.0]
    assert td.asarray([[x, 1], [2, x]]).tolist() == [[1.5, 1.0], [2.0, 1.5]]


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([[1], [2, 3]], td.ShapeError, "nested sequences differ in length"),
        ("text", td.DTypeError, "cannot make a tensor of str data"),
        pytest.param(object(), td.DTypeError, "cannot make a tensor of object data", id="object"),
        ([1j], td.DTypeError, "complex128"),
        (np.zeros(2, complex), td.DTypeError, "complex128 is not supported"),
        (2**70, td.DTypeError, "asarray"),
    ],
    ids=str,
)
def test_what_is_no_tensor(data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        td.asarray(data)


def test_numbers_that_do_not_fit() -> None:
    with pytest.raises(td.DTypeError, match="asarray: 300 does not fit uint8, which holds 0 to 255"):
        td.asarray([1, 300], dtype=td.uint8)
    with pytest.raises(td.DTypeError, match="full: -1 does not fit uint8"):
        td.full(3, -1, dtype=td.uint8)
    with pytest.raises(td.DTypeError, match=r"full: 0.5 is a float, dtype int64"):
        td.full(3, 0.5, dtype=td.int64)


def test_torch_and_dlpack() -> None:
    source = torch.arange(6.0).reshape(2, 3)
    for t in (td.asarray(source), td.from_dlpack(source), td.asarray(source.numpy())):
        np.testing.assert_array_equal(t.numpy(), source.numpy())
    back = torch.from_dlpack(td.asarray([[1.0, 2.0]]) * 2)
    assert back.tolist() == [[2.0, 4.0]]
    np.testing.assert_array_equal(np.from_dlpack(td.asarray([1, 2])), [1, 2])
    assert td.asarray([1.0]).__dlpack_device__() == (1, 0)
    with pytest.raises(td.DTypeError, match=r"cannot read a torch.Tensor through DLPack"):
        td.asarray(torch.zeros(2, requires_grad=True))
    with pytest.raises(td.DTypeError, match="Convert with astype"):
        td.ones(2, dtype=td.bfloat16).__dlpack__()


@pytest.mark.parametrize("shape", [(2, 3), (), (0,), (0, 4)])
@pytest.mark.parametrize("dtype", [td.float32, td.bool, td.int8, td.uint64])
def test_dlpack_without_a_copy_is_the_same_memory(shape: tuple[int, ...], dtype: td.DType) -> None:
    x = td.ones(shape, dtype=dtype)
    for version in (None, (0, 8), (1, 0)):
        assert "capsule" in repr(x.__dlpack__(copy=False, max_version=version))

    class Old:  # a library of the time before versions
        def __dlpack__(self, **_: object) -> object:
            return x.__dlpack__(copy=False)

        def __dlpack_device__(self) -> tuple[int, int]:
            return x.__dlpack_device__()

    shared = np.from_dlpack(Old())
    np.testing.assert_array_equal(shared, x.numpy())
    assert shared.dtype == x.numpy().dtype
    assert not shared.size or np.shares_memory(shared, x.numpy())


@pytest.mark.parametrize("k", [0, 1, -1, 3, -3, 5, -5, 2**31, 2**63, -(2**63), 2**70])
def test_diagonals_beyond_the_matrix(k: int) -> None:
    a = np.arange(1.0, 13.0).reshape(3, 4)
    near = int(np.clip(k, -9, 9))
    np.testing.assert_array_equal(td.tril(td.asarray(a), k=k).numpy(), np.tril(a, near))
    np.testing.assert_array_equal(td.triu(td.asarray(a), k=k).numpy(), np.triu(a, near))
    np.testing.assert_array_equal(td.eye(3, 4, k=k).numpy(), np.eye(3, 4, near))
    np.testing.assert_array_equal(td.eye(0, k=k).numpy(), np.eye(0))


@pytest.mark.parametrize(
    "args",
    [(5,), (2, 7), (7, 2, -2), (0, 5, 2), (5, 0), (0,), (1.0, 2.0, 0.25), (0, 1, 0.1), (3, -3, -1), (-5,)],
    ids=str,
)
def test_arange(args: tuple[float, ...]) -> None:
    got, want = td.arange(*args), np.arange(*args)
    assert got.dtype is (td.int64 if want.dtype.kind == "i" else td.float32)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-6)
    np.testing.assert_array_equal(td.arange(*args, dtype=td.float64).numpy(), np.arange(*args, dtype=np.float64))


def test_arange_errors() -> None:
    with pytest.raises(ValueError, match="step 0 never arrives"):
        td.arange(0, 1, 0)
    with pytest.raises(td.DTypeError, match="arange: 299 does not fit uint8"):
        td.arange(300, dtype=td.uint8)
    assert td.arange(255, 250, -1, dtype=td.uint8).tolist() == [255, 254, 253, 252, 251]


def test_filled() -> None:
    for name, value in [("zeros", 0), ("ones", 1), ("empty", 0)]:
        t = getattr(td, name)((2, 3))
        assert t.dtype is td.float32
        np.testing.assert_array_equal(t.numpy(), np.full((2, 3), value))
        like = getattr(td, name + "_like")(td.asarray([[1, 2]]))
        assert like.dtype is td.int64
        assert like.shape == (1, 2)
        assert getattr(td, name)(3, dtype=td.bool).dtype is td.bool
    assert td.full((2,), 7).dtype is td.int64
    assert td.full((), 0.5).item() == 0.5
    assert td.full((2,), True).dtype is td.bool
    assert td.full((2,), td.asarray(3.0)).tolist() == [3.0, 3.0]
    assert td.full_like(td.ones(2), 7).tolist() == [7.0, 7.0]
    with pytest.raises(td.ShapeError, match=r"zeros: shape .* has a negative size"):
        td.zeros((2, -1))
    with pytest.raises(ValueError, match="there is no device 'cuda'"):
        td.zeros(2, device="cuda")


def test_grids() -> None:
    np.testing.assert_allclose(td.linspace(0, 1, 5).numpy(), np.linspace(0, 1, 5), rtol=1e-6)
    open_end = td.linspace(0, 1, 5, endpoint=False).numpy()
    np.testing.assert_allclose(open_end, np.linspace(0, 1, 5, endpoint=False), rtol=1e-6)
    for k in (-1, 0, 2):
        np.testing.assert_array_equal(td.eye(3, 4, k=k).numpy(), np.eye(3, 4, k))
    for indexing in ("xy", "ij"):
        got = td.meshgrid(td.arange(2), td.arange(3), td.arange(4), indexing=indexing)
        for g, w in zip(got, np.meshgrid(range(2), range(3), range(4), indexing=indexing), strict=True):
            np.testing.assert_array_equal(g.numpy(), w)
    assert td.one_hot(td.asarray([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_dtype_functions() -> None:
    assert td.finfo(td.float32).eps == np.finfo(np.float32).eps
    assert td.finfo(td.bfloat16).max == float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)
    assert td.finfo(td.bfloat16).smallest_normal == float(ml_dtypes.finfo(ml_dtypes.bfloat16).smallest_normal)
    assert td.iinfo("uint8").max == 255
    assert td.iinfo(td.ones(1, dtype=td.int16)).min == -32768
    assert td.isdtype(td.int8, "integral")
    assert td.isdtype(td.int8, ("bool", "signed integer"))
    assert not td.isdtype(td.float32, td.float64)
    assert not td.isdtype(td.float32, "complex floating")
    assert td.can_cast(td.int8, td.int16)
    assert not td.can_cast(td.ones(1), td.int16)
    assert td.result_type(td.ones(1), 1.0, td.float64) is td.float64
    assert td.result_type(1, 2.0) is td.float32
    info = td.__array_namespace_info__()
    assert info.default_dtypes()["real floating"] is td.asarray(1.0).dtype
    assert set(info.dtypes(kind="unsigned integer")) == {"uint8", "uint16", "uint32", "uint64"}
    # The standard names no 16-bit floats.
    assert set(info.dtypes()) == {d.name for d in DTYPES} - {"float16", "bfloat16"}
    assert info.devices() == [info.default_device()] == [td.ones(1).device]
    with pytest.raises(td.DTypeError, match="finfo: int8 is not floating point"):
        td.finfo(td.int8)
    with pytest.raises(td.DTypeError, match="'strange' is not a kind"):
        td.isdtype(td.int8, "strange")


def test_sizes_are_integers_of_any_library() -> None:
    for made in (td.zeros(np.int64(3)), td.ones((np.int32(3),)), td.full(td.asarray(3), 2), td.eye(np.int64(3))[0]):
        assert made.shape == (3,)
        assert type(made.shape[0]) is int
    assert td.eye(2, 3, k=np.int64(1)).tolist() == [[0, 1, 0], [0, 0, 1]]
    for make in (lambda: td.zeros(3.0), lambda: td.eye(3.0), lambda: td.linspace(0, 1, 3.0), lambda: td.eye(3, k=0.5)):
        with pytest.raises(td.DTypeError, match="is not a whole number"):
            make()  # pyright: ignore


def test_linspace_is_made_in_double_precision() -> None:
    for start in (0.1, np.float64(0.1), td.asarray(0.1, dtype=td.float64)):
        got = td.linspace(start, 1, 7, dtype=td.float64)
        np.testing.assert_array_equal(got.numpy(), np.linspace(0.1, 1, 7))
    ends = td.asarray(-3.0), np.float32(50)  # their precision is not that of the result
    np.testing.assert_array_equal(td.linspace(*ends, 50, dtype=td.float64).numpy(), np.linspace(-3, 50, 50))
    with pytest.raises(td.ShapeError, match="linspace: -1 numbers"):
        td.linspace(0, 1, -1)
    with pytest.raises(td.ShapeError, match=r"float: .* has 2 elements"):
        td.linspace(td.asarray([0.0, 1.0]), 1, 3)  # pyright: ignore[reportArgumentType]


def test_integers_that_fit_no_dtype_together() -> None:
    with pytest.raises(td.DTypeError, match="fit no integer dtype together"):
        td.asarray([2**63, -1])
    assert td.asarray([2**63, -1], dtype="float64").dtype is td.float64
    assert td.asarray([2**63, -1.0]).dtype is td.float32


@pytest.mark.parametrize("shape", [(10**30,), (10**10, 10**10), 2**61])
def test_more_elements_than_any_memory_holds(shape) -> None:
    for make in (td.zeros, td.ones, lambda s: td.full(s, 2), lambda s: td.broadcast_to(1.0, s)):
        with pytest.raises(td.ShapeError, match="more elements than any memory can hold"):
            make(shape)
    with pytest.raises(td.ShapeError, match="more elements than any memory can hold"):
        td.arange(10**30)


def test_logspace() -> None:
    np.testing.assert_allclose(td.logspace(0, 3, 4).numpy(), [1, 10, 100, 1000], rtol=1e-6)
    np.testing.assert_allclose(td.logspace(-1, 1, 3, 2, dtype=td.float64).numpy(), [0.5, 1, 2])
    with pytest.raises(td.ShapeError, match="-1 numbers"):
        td.logspace(0, 1, -1)
