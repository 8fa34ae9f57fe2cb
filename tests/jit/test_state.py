"""Cells in compiled functions: values change places, old ones are read late, others hold the memory."""

from collections.abc import Callable

import numpy as np
import pytest

import treadle as td
from treadle import Cell, IndexRangeError, config, nn

A = np.arange(8, dtype=np.float32)
B, C = A * 10 + 1, A * 100 + 2


def cells(*arrays: np.ndarray) -> list[Cell]:
    return [Cell(td.asarray(a.copy())) for a in arrays]


def held(*of: Cell) -> list[list[float]]:
    return [c.value.numpy().tolist() for c in of]


def lists(*arrays: np.ndarray) -> list[list[float]]:
    return [np.asarray(a).tolist() for a in arrays]


@pytest.fixture(params=[1, 2], autouse=True)
def threads(request: pytest.FixtureRequest) -> object:
    with config(threads=request.param):
        yield


def test_two_cells_swap() -> None:
    a, b = cells(A, B)

    @td.compile
    def swap() -> None:
        a.value, b.value = b.value, a.value

    swap()
    assert held(a, b) == lists(B, A)
    swap()
    assert held(a, b) == lists(A, B)


def test_three_cells_rotate() -> None:
    a, b, c = cells(A, B, C)

    @td.compile
    def rotate() -> None:
        a.value, b.value, c.value = b.value, c.value, a.value

    rotate()
    assert held(a, b, c) == lists(B, C, A)
    rotate()
    assert held(a, b, c) == lists(C, A, B)


def test_three_cells_are_made_of_each_others_old_values() -> None:
    a, b, c = cells(A, B, C)

    @td.compile
    def mix(k: object) -> tuple[td.Tensor, td.Tensor]:
        x, y, z = a.value, b.value, c.value
        a.value, b.value, c.value = y + 1, td.flip(z) * k, x - y
        return x + y + z, a.value

    total, first = mix(np.float32(2))
    assert lists(total.numpy(), first.numpy()) == lists(A + B + C, B + 1)
    assert held(a, b, c) == lists(B + 1, 2 * C[::-1], A - B)


def test_a_cell_is_made_of_anothers_new_value() -> None:
    a, b = cells(A, B)

    @td.compile
    def step() -> td.Tensor:
        a.value = a.value + b.value
        total = td.sum(a.value)
        b.value = a.value * 2
        a.value = a.value - 1
        return total

    assert float(step()) == float(np.sum(A + B))
    assert held(a, b) == lists(A + B - 1, 2 * (A + B))


def test_the_old_value_is_read_backwards_after_the_update() -> None:
    a, b = cells(A, B)

    @td.compile
    def step() -> None:
        old = a.value
        a.value = b.value * 3
        b.value = td.flip(old)

    step()
    assert held(a, b) == lists(B * 3, A[::-1])


def test_one_value_goes_to_two_cells_and_to_the_caller() -> None:
    a, b, c = cells(A, B, C)

    @td.compile
    def step() -> td.Tensor:
        value = c.value + 1
        a.value = b.value = value
        return value

    result = step().numpy()
    assert held(a, b) == lists(C + 1, C + 1)
    c.value = td.zeros(8)
    step()
    assert held(a, b) == lists(A * 0 + 1, A * 0 + 1)
    assert result.tolist() == (C + 1).tolist()


def test_the_old_value_is_returned() -> None:
    (a,) = cells(A)

    @td.compile
    def step() -> td.Tensor:
        old = a.value
        a.value = old + 1
        return old

    first, second = step(), step()
    assert lists(first.numpy(), second.numpy()) == lists(A, A + 1)


def test_an_argument_becomes_the_value() -> None:
    (a,) = cells(A)

    @td.compile
    def assign(x: object) -> object:
        a.value = x
        return x

    given = B.copy()
    result = assign(given)
    given[:] = -1
    assert held(a) == lists(B)
    assert result.numpy().tolist() == B.tolist()
    a.value = a.value + 1
    assert result.numpy().tolist() == B.tolist()


def test_what_users_hold_never_changes() -> None:
    (a,) = cells(A)

    @td.compile
    def step() -> None:
        a.value = a.value + 1

    step()
    views = [a.value.numpy(), np.asarray(a.value), a.value[2:5].numpy(), a.numpy()]
    tensors = [a.value, a.value[2:5], a.value * 2, td.reshape(a.value, (2, 4))]
    other = Cell(a.value)
    copies = [v.copy() for v in views]
    step()
    step()
    assert lists(*views) == lists(*copies)
    assert [t.numpy().ravel().tolist() for t in tensors] == lists(A + 1, (A + 1)[2:5], 2 * (A + 1), A + 1)
    assert held(a, other) == lists(A + 3, A + 1)


def test_arguments_that_are_the_memory_of_the_cell() -> None:
    (a,) = cells(A)

    @td.compile
    def step(x: object, y: object) -> None:
        a.value = a.value * 0.5 + td.flip(x) + td.sum(y)

    memory = a.value.numpy()
    want = A.copy()
    for _ in range(3):
        step(memory, a)
        want = want * np.float32(0.5) + A[::-1] + want.sum()
        assert held(a) == lists(want)
        assert memory.tolist() == A.tolist()
    step(a.numpy(), a.value)
    assert held(a) == lists(want * np.float32(0.5) + want[::-1] + want.sum())


def test_one_array_is_passed_twice() -> None:
    @td.compile
    def f(x: object, y: object) -> object:
        return x + td.flip(y), x * y

    total, product = f(A, A)
    assert lists(total.numpy(), product.numpy()) == lists(A + A[::-1], A * A)


def test_two_cells_hold_one_tensor() -> None:
    shared = td.asarray(A)
    a, b = Cell(shared), Cell(shared)

    @td.compile
    def step() -> None:
        a.value = a.value + 1
        b.value = td.flip(b.value)

    step()
    step()
    assert held(a, b) == lists(A + 2, A)
    assert shared.numpy().tolist() == A.tolist()


def test_functions_take_turns_on_a_cell() -> None:
    a, b = cells(A, B)

    @td.compile
    def add() -> None:
        a.value = a.value + 1

    @td.compile
    def copy() -> None:
        b.value = a.value

    for _ in range(2):
        add()
        copy()
        a.value = a.value * 2
        add()
    assert held(a, b) == lists(((A + 1) * 2 + 1 + 1) * 2 + 1, (A + 1) * 2 + 1 + 1)


def test_a_cell_that_is_only_read_gives_what_it_holds_now() -> None:
    a, b = cells(A, B)

    @td.compile
    def read() -> td.Tensor:
        return a.value + b.value

    @td.compile
    def add() -> None:
        a.value = a.value + 1

    def check(want: np.ndarray) -> None:
        for _ in range(2):  # bound anew, and bound as before
            assert read().numpy().tolist() == want.tolist()

    check(A + B)
    lent = a.value
    check(A + B)
    add()  # a copy, for the tensor is lent
    check(A + 1 + B)
    add()  # in place
    check(A + 2 + B)
    a.value = td.asarray(C)
    check(C + B)
    a.value = lent
    check(A + B)
    a.value, b.value = b.value, a.value
    check(A + B)
    b.value = b.value * 2
    check(2 * A + B)
    assert read.num_compiles == 1


def products(a: Cell) -> None:
    a.value = a.value @ a.value.mT + td.flip(a.value, axis=1)


def columns(a: Cell) -> None:
    a.value = a.value - td.max(a.value, axis=0, keepdims=True) + td.sum(a.value, axis=1, keepdims=True)


def moved(a: Cell) -> None:
    a.value = td.roll(a.value, 1, axis=0) + a.value


def transposed(a: Cell) -> None:
    a.value = a.value.mT


def scattered(a: Cell) -> None:
    a.value = a.value.at[td.asarray([1, 1, 3])].add(a.value[td.asarray([0, 2, 4])])


def sorted_out(a: Cell) -> None:
    a.value = td.softmax(a.value, axis=1) * 4 + a.value[td.argmax(a.value, axis=1)]


@pytest.mark.parametrize("update", [products, columns, moved, transposed, scattered, sorted_out])
def test_an_update_reads_other_elements_than_it_writes(update: Callable[[Cell], None]) -> None:
    """Compiled in place, or not, and uncompiled give the same."""
    start = np.random.default_rng(0).integers(-2, 3, (5, 5)).astype(np.float32)
    plain, fast = cells(start, start)
    step = td.compile(lambda: update(fast))
    for _ in range(3):
        update(plain)
        step()
    np.testing.assert_allclose(fast.numpy(), plain.numpy(), rtol=1e-6)


def test_a_bad_index_changes_nothing() -> None:
    (a,) = cells(A)
    table = nn.Embedding(10, 4)

    @td.compile
    def step(where: object, ids: object) -> object:
        a.value = a.value + 1
        return a.value[where], table(ids)

    step(np.array([1]), np.array([[0, 9]]))
    for where, message in ((8, "index 8 is out of range for axis 0 of .*-8..7"), (-9, "index -9 .*-8..7")):
        with pytest.raises(IndexRangeError, match=message) as caught:
            step(np.array([where]), np.array([[0, 1]]))
        assert __file__ in caught.value.__notes__[0]
    for wrong in (10, -1):
        with pytest.raises(IndexRangeError, match=f"index {wrong} is out of range .*0..9"):
            step(np.array([-8]), np.array([[0, wrong]]))
    assert held(a) == lists(A + 1)
    assert step(np.array([-8]), np.array([[3, 3]]))[0].numpy().tolist() == [2.0]


def test_an_exception_while_tracing_changes_nothing() -> None:
    (a,) = cells(A)
    p = nn.Parameter(td.ones(8))
    fails = [True]

    @td.compile
    def step(x: object) -> object:
        a.value = a.value + x
        (p * x).sum().backward()
        if fails[0]:
            raise KeyError("no")
        return a.value

    with pytest.raises(KeyError, match="no"):
        step(B)
    assert held(a) == lists(A)
    assert p.grad is None
    (p * 2).sum().backward()
    assert p.grad.numpy().tolist() == [2.0] * 8
    fails[0] = False
    assert step(B).numpy().tolist() == (A + B).tolist()
    assert p.grad.numpy().tolist() == (B + 2).tolist()


def test_gradients_accumulate_across_calls() -> None:
    p = nn.Parameter(td.ones(3))

    @td.compile
    def add(x: object) -> None:
        (p * x).sum().backward()

    kept: list[np.ndarray] = []
    for n in range(1, 4):
        add(np.full(3, 2, np.float32))
        kept.append(p.grad.numpy())
        assert [k.tolist() for k in kept] == [[2.0 * (m + 1)] * 3 for m in range(n)]
    assert add.num_compiles == 2
    p.grad = None
    add(np.full(3, 5, np.float32))
    assert p.grad.numpy().tolist() == [5.0] * 3
    assert add.num_compiles == 2


def test_a_gradient_cleared_first_is_scratch() -> None:
    p = nn.Parameter(td.ones(3))

    @td.compile
    def step(x: object) -> None:
        p.grad = None
        (p * x).sum().backward()
        p.value = p.value - p.grad

    step(np.full(3, 2, np.float32))
    assert p.grad is None
    assert p.numpy().tolist() == [-1.0] * 3


def test_accumulated_gradients_are_used_and_cleared() -> None:
    p = nn.Parameter(td.ones(3))

    @td.compile
    def add(x: object) -> None:
        (p * x).sum().backward()

    @td.compile
    def update() -> None:
        p.value = p.value - p.grad
        p.grad = None

    add(np.full(3, 2, np.float32))
    add(np.full(3, 3, np.float32))
    update()
    assert p.grad is None
    assert p.numpy().tolist() == [-4.0] * 3


def test_a_gradient_that_is_replaced_is_not_looked_at() -> None:
    p = nn.Parameter(td.ones(3))

    @td.compile
    def assign(g: object) -> None:
        p.grad = g
        p.value = p.value - p.grad

    for value in range(4):  # there is no gradient before the first call, and one before the others
        assign(np.full(3, value, np.float32))
    assert assign.num_compiles == 1
    assert p.grad.numpy().tolist() == [3.0] * 3
    assert p.numpy().tolist() == [-5.0] * 3


def test_only_what_nobody_else_holds_is_written_in_place() -> None:
    given = np.ones((2, 2), np.float32)
    zeros, copied = td.zeros((3,)), nn.Linear(2, 2, bias=False)
    copied.load_state_dict({"weight": given})
    number, scalar, lent = nn.Buffer(0.5), nn.Buffer(np.float32(0.5)), nn.Buffer(zeros)

    @td.compile
    def step() -> None:
        copied.weight += 1.0
        for cell in (number, scalar, lent):
            cell.value = cell + 1.0

    step()
    held = copied.weight.value  # read, and so lent, between two steps
    step()
    assert (given == 1).all()
    assert (held.numpy() == 2).all()
    assert (copied.weight.numpy() == 3).all()
    assert (zeros.numpy() == 0).all()
    assert (lent.numpy() == 2).all()
    assert float(number) == float(scalar) == 2.5
    assert float(td.asarray(0.5)) == 0.5
