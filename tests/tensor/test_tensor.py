"""Tensors as Python objects: numbers out, printing, laziness, cells, and what a trace changes."""

import copy
import pickle
from collections.abc import Sequence

import numpy as np
import pytest

import treadle as td
from tests.reference import execute
from treadle.core import Type
from treadle.ir import Input, Node
from treadle.tensor import Array, Cell, set_executor, tracing
from treadle.tensor.value import MAX_DEPTH, Maker


def traced(shape: tuple[int, ...] = (2, 3), dtype: td.DType = td.float32) -> td.Tensor:
    return Maker.new(Input(0, Type(dtype, shape))(), 1, False)


class Nothing:
    """A trace that nobody asks for cells."""


class Counter:
    """An executor that counts its calls, and the nodes asked for."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, nodes: Sequence[Node]) -> list[Array]:
        self.calls.append(len(nodes))
        return execute(nodes)


@pytest.fixture
def counter(oracle: None) -> Counter:
    td.realize(td.ones(1) + 1)  # what other tests left pending
    counted = Counter()
    set_executor(counted)
    return counted


def test_numbers_out() -> None:
    x = td.asarray([[1.5, -2.0]])
    assert x.tolist() == [[1.5, -2.0]]
    assert x[0, 0].item() == 1.5
    assert float(x[0, 0]) == 1.5
    assert int(x[0, 1]) == -2
    assert bool(x[0, 0])
    assert not td.asarray(0)
    assert type(td.asarray(True).item()) is bool
    assert type(td.asarray([1], dtype=td.bfloat16).item()) is float
    assert td.asarray([1.5], dtype=td.bfloat16).tolist() == [1.5]
    assert len(td.zeros((4, 2))) == 4
    assert 2.0 in td.asarray([1.0, 2.0])
    assert 3.0 not in td.asarray([1.0, 2.0])
    assert f"{td.asarray(1.23456):.2f}" == "1.23"
    assert f"{td.asarray(3)}" == "Tensor(3, dtype=int64, shape=())"
    np.testing.assert_array_equal(np.asarray(x), [[1.5, -2.0]])
    assert np.asarray(x, np.float64).dtype == np.float64
    assert x.__array_namespace__() is td
    assert (x.ndim, x.size, x.nbytes, x.itemsize, x.device, x.numel(), x.dim()) == (2, 2, 8, 4, "cpu", 2, 2)


def test_what_is_no_number() -> None:
    x = td.ones((2, 3))
    with pytest.raises(td.ShapeError, match=r"bool: f32\[2,3\] has 6 elements.*any\(\) or all\(\)"):
        bool(x)
    with pytest.raises(td.ShapeError, match=r"float: .* Reduce it first"):
        float(x)
    with pytest.raises(td.ShapeError, match=r"item: .* has 6 elements"):
        x.item()
    with pytest.raises(td.ShapeError, match="len: a 0-d tensor has no length"):
        len(td.asarray(1))
    with pytest.raises(td.ShapeError, match="iter: a 0-d tensor"):
        iter(td.asarray(1))
    with pytest.raises(TypeError, match=r"Use td.asarray\(data\)"):
        td.Tensor([1])


def test_the_numbers_cannot_be_written_to() -> None:
    x = td.asarray([1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        x.numpy()[0] = 3
    assert np.array(x).flags.writeable
    assert x.__array__(copy=True).flags.writeable


def test_repr() -> None:
    assert repr(td.asarray([1.0, 2.5])) == "Tensor([1. , 2.5], dtype=float32, shape=(2,))"
    assert repr(td.asarray([[1], [2]])) == "Tensor([[1],\n        [2]], dtype=int64, shape=(2, 1))"
    assert repr(td.asarray(True)) == "Tensor(True, dtype=bool, shape=())"
    assert repr(td.asarray([1.5], dtype=td.bfloat16)) == "Tensor([1.5], dtype=bfloat16, shape=(1,))"
    assert repr(td.zeros((0, 2))) == "Tensor([], dtype=float32, shape=(0, 2))"
    assert repr(td.asarray([1.0], requires_grad=True)).endswith(", requires_grad=True)")
    assert "..." in repr(td.zeros(5000))
    assert repr(traced() + 1) == "Tensor(f32[2,3], traced)"
    assert repr(Cell(td.asarray([1.0]))).startswith("Cell([1.]")


def test_hash_and_membership_in_containers() -> None:
    x, y = td.asarray([1.0]), td.asarray([1.0])
    assert len({x, y}) == 2
    assert {x: 1}[x] == 1


def test_pickle_and_copy() -> None:
    x = td.asarray([1.0, 2.0], requires_grad=True)
    back = pickle.loads(pickle.dumps(x))
    assert back.tolist() == x.tolist()
    assert back.requires_grad
    assert copy.deepcopy(td.asarray([3])).tolist() == [3]


def test_functions_of_numpy_take_tensors() -> None:
    data = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]], np.float32)
    for x in (td.asarray(data), Cell(td.asarray(data))):
        for function in (np.sum, np.mean, np.max, np.std, np.argmax, np.sort, np.abs, np.shape, np.size, np.transpose):
            np.testing.assert_array_equal(function(x), function(data), err_msg=function.__name__)
        assert np.sum(x, axis=1).tolist() == [2.0, 3.0]
        assert np.concatenate([x, data]).shape == (4, 3)
        assert np.stack([x, x], axis=0).shape == (2, 2, 3)
        assert isinstance(np.where(x > 0, x, 0.0), np.ndarray)
        assert np.allclose(x, data)
    assert td.compile(lambda x: x.reshape(np.size(x)))(data).shape == (6,)


def test_pickle_and_copy_of_cells() -> None:
    cell = Cell(td.asarray([1.0, 2.0]), requires_grad=True)
    cell.grad = td.asarray([5.0, 5.0])
    for back in (copy.deepcopy(cell), copy.copy(cell), pickle.loads(pickle.dumps(cell))):
        assert isinstance(back, Cell)
        assert back.requires_grad
        assert back.grad is None
        back.value = td.asarray([0.0, 0.0])
        assert cell.tolist() == [1.0, 2.0]
    key = td.random.Generator(3)
    key.next_key()
    other = pickle.loads(pickle.dumps(key))
    assert other.next_key().tolist() == key.next_key().tolist()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cuda", "everything is on the CPU"),
        ("sqrt_", "Tensors do not change: use x = x.sqrt"),
        ("grad_fn", "td.grad of a function"),
    ],
)
def test_names_of_pytorch_that_do_not_exist_say_what_to_use(name: str, hint: str) -> None:
    for x in (td.asarray([1.0]), Cell(td.asarray([1.0]))):
        with pytest.raises(AttributeError, match=hint):
            getattr(x, name)
        assert not hasattr(x, "__array_interface__")
    with pytest.raises(AttributeError, match=r"'Tensor' object has no attribute 'nonsense'$"):
        td.asarray([1.0]).nonsense  # noqa: B018


# --- laziness ---


def test_nothing_runs_before_a_number_is_asked_for(counter: Counter) -> None:
    x = td.asarray([1.0, 2.0])
    y = (x * 2 + 1).sum()
    assert counter.calls == []
    assert not y.is_realized
    assert y.item() == 8.0
    assert y.item() == 8.0
    assert counter.calls == [1]
    assert x.tolist() == [1.0, 2.0]
    assert counter.calls == [1]


def test_what_was_computed_is_not_computed_again(counter: Counter) -> None:
    x = td.asarray([1.0, 2.0])
    y = x * 2
    z = y + 1
    y.numpy()
    handle = z.node.args[0]
    assert handle is not y.node
    assert z.tolist() == [3.0, 5.0]
    from treadle.tensor import lift

    graph, arrays = lift([(z * 3).node])
    assert len(graph.nodes()) == 3  # the data, 3, their product
    assert arrays[0] is z.numpy().base or np.shares_memory(arrays[0], z.numpy())


def test_realize_computes_together(counter: Counter) -> None:
    x = td.asarray([1.0])
    a, b = x + 1, x * 5
    td.realize({"a": a, "b": [b]}, x)
    assert counter.calls == [2]
    assert a.is_realized
    assert b.is_realized


def test_equal_programs_on_other_data_are_equal_graphs() -> None:
    from treadle.tensor import lift

    def program(data: list[float]) -> td.Tensor:
        w = td.asarray(data, requires_grad=True)
        loss = (w * w).sum()
        loss.backward()
        assert w.grad is not None
        return w.grad.detach()

    first, second = lift([program([1.0, 2.0]).node]), lift([program([3.0, 4.0]).node])
    assert first.graph == second.graph
    assert [3.0, 4.0] in [array.tolist() for array in second.arrays]


def test_a_long_loop_is_computed_on_the_way(counter: Counter) -> None:
    x = td.asarray([0.0])
    for _ in range(3 * MAX_DEPTH):
        x = x + 1.0
    assert x.item() == 3 * MAX_DEPTH
    assert 3 <= len(counter.calls) <= 4


def test_a_long_loop_in_a_trace_is_left_alone(counter: Counter) -> None:
    with tracing(Nothing()):  # pyright: ignore
        x = traced()
        for _ in range(MAX_DEPTH + 10):
            x = x + 1.0
    assert counter.calls == []


# --- cells ---


def test_a_cell_is_a_tensor_that_can_be_replaced() -> None:
    cell = Cell(np.array([1.0, 2.0], np.float32))
    assert (cell + 1).tolist() == [2.0, 3.0]
    assert (1 - cell).tolist() == [0.0, -1.0]
    assert td.sum(cell).item() == 3.0
    assert cell[0].item() == 1.0
    assert (td.asarray([1.0, 1.0]) * cell).tolist() == [1.0, 2.0]
    assert td.concat([cell, cell]).shape == (4,)
    before = cell.value
    cell.value = cell * 10
    assert cell.tolist() == [10.0, 20.0]
    assert before.tolist() == [1.0, 2.0]
    same = cell
    cell += 1
    assert cell is same
    assert cell.tolist() == [11.0, 21.0]
    cell.value = np.array([1, 2])
    assert cell.dtype is td.float32
    with pytest.raises(td.ShapeError, match=r"Cell: holds f32\[2\] and cannot take f32\[3\]"):
        cell.value = td.ones(3)


def test_cells_written_are_computed_with_the_next_number(counter: Counter) -> None:
    a, b = Cell(td.zeros(2)), Cell(td.zeros(2))
    for step in range(5):
        a.value = a + 1
        b.value = b + a
        loss = (a * b).sum()
        loss.item()
        assert counter.calls == [3] * (step + 1)
    assert a.tolist() == [5.0, 5.0]
    assert b.tolist() == [15.0, 15.0]
    assert counter.calls == [3] * 5


def test_cells_keep_no_history() -> None:
    cell = Cell(td.ones(2), requires_grad=True)
    cell.value = cell * 2
    loss = (cell * cell).sum()
    loss.backward()
    assert cell.grad is not None
    assert cell.grad.tolist() == [4.0, 4.0]
    with pytest.raises(td.GradientError, match="does not hold floats"):
        Cell(td.asarray([1]), requires_grad=True)


# --- traces ---


def test_asking_a_traced_tensor_for_numbers_names_line_and_remedy() -> None:
    x = traced() + 1
    for ask in (lambda: bool(x.sum() > 0), x.numpy, x.tolist, lambda: float(x[0, 0])):
        with pytest.raises(td.TraceError, match=r"test_tensor.py:\d+ for the values .*Use td.where\(condition"):
            ask()


def test_constants_inside_a_trace_have_numbers() -> None:
    with tracing(Nothing()):  # pyright: ignore
        assert (td.asarray([1, 2]) + 1).tolist() == [2, 3]
        x = traced() * 2
        td.realize(x)
        assert not x.is_realized


def test_cells_go_through_the_trace() -> None:
    cell = Cell(td.ones(2), requires_grad=True)

    class Recorder:
        def __init__(self) -> None:
            self.held = cell.reads(Input(0, Type(td.float32, (2,)))())
            self.grad: td.Tensor | None = None

        def read(self, _: Cell) -> td.Tensor:
            return self.held

        def write(self, _: Cell, value: td.Tensor) -> None:
            self.held = value

        def read_grad(self, _: object) -> td.Tensor | None:
            return self.grad

        def write_grad(self, _: object, grad: td.Tensor | None) -> None:
            self.grad = grad

    recorder = Recorder()
    with tracing(recorder):
        loss = (cell * cell).sum()
        loss.backward()
        assert cell.grad is not None
        with td.no_grad():
            cell.value = cell - 0.1 * cell.grad
        assert "traced" in repr(cell)
    assert cell.grad is None
    assert cell.tolist() == [1.0, 1.0]
    assert "traced" in repr(recorder.grad)


def test_arrays_of_other_libraries_are_operands() -> None:
    import torch

    x = td.asarray([1.0, 2.0])
    for result in (x + torch.ones(2), x * torch.tensor([2.0, 2.0]), x < torch.tensor([0.0, 9.0])):
        assert isinstance(result, td.Tensor)
    np.testing.assert_array_equal((x + torch.ones(2)).numpy(), [2, 3])
    with pytest.raises(td.DTypeError, match=r"add: cannot take this torch.Tensor as an operand"):
        x + torch.ones(2, requires_grad=True)


def test_memory_handed_out_is_a_copy() -> None:
    import torch

    x = td.asarray(np.arange(4.0))
    torch.from_dlpack(x)[0] = 99
    np.from_dlpack(x)[1] = 99
    np.testing.assert_array_equal(x.numpy(), [0, 1, 2, 3])
    assert not np.from_dlpack(x, copy=False).flags.writeable


def test_python_functions_of_numbers() -> None:
    x = td.asarray([7.25, -7.25])
    for got, want in zip(divmod(x, 2), np.divmod(x.numpy(), 2), strict=True):
        np.testing.assert_array_equal(got.numpy(), want)
    np.testing.assert_array_equal(divmod(9, td.asarray([4, 5]))[1].numpy(), [1, 4])
    np.testing.assert_array_equal(round(x).numpy(), [7, -7])
    np.testing.assert_allclose(round(x, 1).numpy(), [7.2, -7.2], rtol=1e-6)
    np.testing.assert_array_equal(td.round(td.asarray([1250.0]), decimals=-2).numpy(), [1200])
    assert td.asarray(3.0).transpose(0, 0).shape == ()


def test_to_takes_what_pytorch_takes() -> None:
    x = td.asarray([1.0])
    assert x.to("cpu", td.float64, True, copy=True).dtype is td.float64
    assert x.to(td.int32, True, True).dtype is td.int32
    assert x.to(device="cpu", dtype="float16").dtype is td.float16
    with pytest.raises(ValueError, match="no device 'cuda'"):
        x.to("cuda", td.float64)


def test_the_package_is_no_function():
    with pytest.raises(TypeError, match=r"torch\.tensor.* is here: td\.asarray\(data\)"):
        td.tensor([1.0])
