"""Factorisations and solutions against NumPy and PyTorch: values, gradients of two orders, edge sizes, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import treadle as td

Array = np.ndarray[Any, Any]
LA = td.linalg
TL = torch.linalg

SIZES = [((), 1), ((2, 1), 2), ((3,), 5)]


def general(*shape: int, dtype: Any = np.float64) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def symmetric(*shape: int) -> Array:
    a = general(*shape)
    return a + a.swapaxes(-1, -2)


def definite(*shape: int) -> Array:
    a = general(*shape)
    return a @ a.swapaxes(-1, -2) + shape[-1] * np.eye(shape[-1])


def close(got: td.Tensor, want: Any, tolerance: float = 1e-9) -> None:
    want = np.asarray(want)
    assert got.shape == want.shape
    np.testing.assert_allclose(got.numpy(), want, rtol=tolerance, atol=tolerance)


def torch_gradients(function: Callable[..., Any], arrays: list[Array], weights: list[Array]) -> list[Array]:
    inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
    outs = function(*inputs)
    outs = outs if isinstance(outs, tuple) else (outs,)
    total = sum((o * torch.tensor(w)).sum() for o, w in zip(outs, weights, strict=True))
    return [g.numpy() for g in torch.autograd.grad(total, inputs)]


def loss_of(function: Callable[..., Any], weights: list[Array]) -> Callable[..., td.Tensor]:
    def loss(*inputs: td.Tensor) -> td.Tensor:
        outs = function(*inputs)
        outs = outs if isinstance(outs, tuple) else (outs,)
        total = (outs[0] * weights[0]).sum()
        for o, w in zip(outs[1:], weights[1:], strict=True):
            total = total + (o * w).sum()
        return total

    return loss


def signs_fixed(q: Any, r: Any) -> Any:
    """Make what does not depend on the signs of columns out of Q."""
    return (q * q, r * r)


def rotation(factors: Any) -> Any:
    return factors[0] * 2 @ factors[2]


# name, treadle's function, PyTorch's, operands. Results must not depend on arbitrary signs.
FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., list[Array]]]] = {
    "cholesky": (LA.cholesky, TL.cholesky, lambda b, n: [definite(*b, n, n)]),
    "cholesky-upper": (
        lambda a: LA.cholesky(a, upper=True),
        lambda a: TL.cholesky(a, upper=True),
        lambda b, n: [definite(*b, n, n)],
    ),
    "det": (LA.det, TL.det, lambda b, n: [general(*b, n, n)]),
    "logdet": (lambda a: LA.slogdet(a)[1], lambda a: TL.slogdet(a)[1], lambda b, n: [general(*b, n, n)]),
    "inv": (LA.inv, TL.inv, lambda b, n: [definite(*b, n, n)]),
    "solve": (LA.solve, TL.solve, lambda b, n: [definite(*b, n, n), general(*b, n, 3)]),
    "solve-broadcast": (LA.solve, TL.solve, lambda b, n: [definite(n, n), general(*b, n, 3)]),
    "eigvalsh": (LA.eigvalsh, TL.eigvalsh, lambda b, n: [symmetric(*b, n, n)]),
    "eigh": (
        lambda a: (LA.eigh(a)[0], LA.eigh(a)[1] ** 2),
        lambda a: (TL.eigh(a)[0], TL.eigh(a)[1] ** 2),
        lambda b, n: [symmetric(*b, n, n)],
    ),
    "svdvals": (LA.svdvals, TL.svdvals, lambda b, n: [general(*b, n, n + 2)]),
    "pinv-wide": (LA.pinv, TL.pinv, lambda b, n: [general(*b, n, n + 2)]),
    "pinv-tall": (LA.pinv, TL.pinv, lambda b, n: [general(*b, n + 2, n)]),
    "matrix_exp": (LA.matrix_exp, TL.matrix_exp, lambda b, n: [general(*b, n, n) * 3]),
    "matrix_power": (
        lambda a: LA.matrix_power(a, 5),
        lambda a: TL.matrix_power(a, 5),
        lambda b, n: [general(*b, n, n)],
    ),
    "matrix_power-negative": (
        lambda a: LA.matrix_power(a, -3),
        lambda a: TL.matrix_power(a, -3),
        lambda b, n: [definite(*b, n, n)],
    ),
    "lstsq": (
        lambda a, b: LA.lstsq(a, b).solution,
        lambda a, b: TL.lstsq(a, b).solution,
        lambda b, n: [general(*b, n + 3, n), general(*b, n + 3, 2)],
    ),
    "cholesky_solve": (
        lambda b, a: LA.cholesky_solve(b, td.tril(a)),
        lambda b, a: torch.cholesky_solve(b, torch.tril(a)),
        lambda b, n: [general(*b, n, 2), definite(*b, n, n)],
    ),
    "cholesky_inverse": (
        lambda a: LA.cholesky_inverse(td.tril(a)),
        lambda a: torch.cholesky_inverse(torch.tril(a)),
        lambda b, n: [definite(*b, n, n)],
    ),
    "cond": (LA.cond, TL.cond, lambda b, n: [general(*b, n, n)]),
}
for m, n in ((0, 0), (0, 3), (3, 0)):
    for full in (True, False):
        FUNCTIONS[f"svd-{m}-{n}-{full}"] = (
            lambda a, full=full: (LA.svd(a, full_matrices=full).S, LA.svd(a, full_matrices=full).U[..., :, :1] ** 2),
            lambda a, full=full: (TL.svd(a, full_matrices=full).S, TL.svd(a, full_matrices=full).U[..., :, :1] ** 2),
            lambda b, k, m=m, n=n: [general(*b, k + m, k + n)],
        )
    FUNCTIONS[f"svd-vectors-{m}-{n}"] = (
        lambda a: rotation(LA.svd(a, full_matrices=False)),
        lambda a: rotation(TL.svd(a, full_matrices=False)),
        lambda b, k, m=m, n=n: [general(*b, k + m, k + n)],
    )
    FUNCTIONS[f"qr-{m}-{n}"] = (
        lambda a: signs_fixed(*LA.qr(a)),
        lambda a: signs_fixed(*TL.qr(a)),
        lambda b, k, m=m, n=n: [general(*b, k + m, k + n)],
    )
for upper in (True, False):
    for left in (True, False):
        for unit in (True, False):
            keywords = {"upper": upper, "left": left, "unitriangular": unit}
            FUNCTIONS[f"solve_triangular-{upper}-{left}-{unit}"] = (
                lambda a, b, keywords=keywords: LA.solve_triangular(a, b, **keywords),
                lambda a, b, keywords=keywords: TL.solve_triangular(a, b, **keywords),
                lambda b, n, left=left: [definite(*b, n, n), general(*b, *((n, 2) if left else (2, n)))],
            )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients_are_those_of_pytorch(name: str) -> None:
    function, theirs, operands = FUNCTIONS[name]
    for batch, size in SIZES:
        arrays = operands(batch, size)
        got, want = function(*[td.asarray(a) for a in arrays]), theirs(*[torch.tensor(a) for a in arrays])
        gots, wants = (x if isinstance(x, tuple) else (x,) for x in (got, want))
        for g, w in zip(gots, wants, strict=True):
            close(g, w.numpy(), 1e-8)
        weights = [np.random.default_rng(7).standard_normal(tuple(w.shape)) for w in wants]
        expected = torch_gradients(theirs, arrays, weights)
        found = td.grad(loss_of(function, weights), argnums=tuple(range(len(arrays))))(*[td.asarray(a) for a in arrays])
        for g, w in zip(found, expected, strict=True):
            close(g, w, 1e-7)


SYMMETRISED = {"cholesky", "cholesky-upper", "eigvalsh", "eigh"}  # they read one triangle: only symmetric steps count


def numeric(function: Callable[[Array], float], x: Array, direction: Array, step: float = 1e-5) -> float:
    return (function(x + step * direction) - function(x - step * direction)) / (2 * step)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if not name.startswith("svd-vectors")])
def test_gradients_of_two_orders_are_those_of_finite_differences(name: str) -> None:
    function, _, operands = FUNCTIONS[name]
    arrays = operands((2,), 3)
    tensors = [td.asarray(a) for a in arrays]
    outs = function(*tensors)
    weights = [
        np.random.default_rng(1).standard_normal(o.shape) for o in (outs if isinstance(outs, tuple) else (outs,))
    ]
    loss = loss_of(function, weights)
    steps = [np.random.default_rng(k).standard_normal(a.shape) for k, a in enumerate(arrays)]
    if name in SYMMETRISED:
        steps = [s + s.swapaxes(-1, -2) for s in steps]

    def slope(*inputs: td.Tensor) -> td.Tensor:
        found = td.grad(loss, argnums=tuple(range(len(inputs))))(*inputs)
        total = (found[0] * steps[0]).sum()
        for g, s in zip(found[1:], steps[1:], strict=True):
            total = total + (g * s).sum()
        return total

    compiled = td.compile(slope)
    second = td.grad(slope, argnums=tuple(range(len(arrays))))(*tensors)
    along = sum(float((g * s).sum()) for g, s in zip(second, steps, strict=True))

    def at(t: float, f: Callable[..., td.Tensor]) -> float:
        return float(f(*[td.asarray(a + t * s) for a, s in zip(arrays, steps, strict=True)]))

    h = 1e-5
    first = (at(h, loss) - at(-h, loss)) / (2 * h)
    np.testing.assert_allclose(float(slope(*tensors)), first, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(float(compiled(*tensors)), first, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(along, (at(h, slope) - at(-h, slope)) / (2 * h), rtol=1e-4, atol=1e-4)


FACTORS = [LA.cholesky, LA.det, LA.slogdet, LA.inv, LA.eigh, LA.eigvalsh, LA.qr, LA.svd, LA.svdvals, LA.pinv]
NUMPY = [np.linalg.cholesky, np.linalg.det, np.linalg.slogdet, np.linalg.inv, np.linalg.eigh, np.linalg.eigvalsh]
NUMPY += [np.linalg.qr, np.linalg.svd, np.linalg.svdvals, np.linalg.pinv]


def results(found: Any) -> tuple[Any, ...]:
    return tuple(found) if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize(("ours", "theirs"), list(zip(FACTORS, NUMPY, strict=True)), ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [td.float16, td.bfloat16, td.float32, td.float64], ids=str)
def test_every_float(ours: Any, theirs: Any, dtype: td.DType) -> None:
    a = definite(2, 3, 3).astype(dtype.numpy)
    eps = {"float16": 2e-2, "bfloat16": 2e-1, "float32": 1e-4, "float64": 1e-10}[dtype.name]
    wide = a.astype(np.float64)
    for got, want in zip(results(ours(td.asarray(a))), results(theirs(wide)), strict=True):
        assert got.dtype is dtype
        np.testing.assert_allclose(np.abs(got.numpy().astype(np.float64)), np.abs(want), rtol=eps, atol=eps)


@pytest.mark.parametrize("shape", [(0, 0), (2, 0, 0), (0, 3, 3)], ids=str)
@pytest.mark.parametrize("ours", FACTORS, ids=lambda f: f.__name__)
def test_matrices_and_batches_of_nothing(ours: Any, shape: tuple[int, ...]) -> None:
    want = getattr(np.linalg, ours.__name__)(np.zeros(shape))
    for got, expected in zip(results(ours(td.zeros(shape))), results(want), strict=True):
        assert got.shape == np.shape(expected)
        np.testing.assert_array_equal(got.numpy(), np.asarray(expected))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3)], ids=str)
def test_factors_of_empty_matrices(shape: tuple[int, ...]) -> None:
    a = td.zeros(shape, dtype=td.float64)
    for full in (True, False):
        for got, want in zip(
            LA.svd(a, full_matrices=full), TL.svd(torch.zeros(shape, dtype=torch.float64), full), strict=True
        ):
            assert got.shape == tuple(want.shape)
            np.testing.assert_array_equal(got.numpy(), want.numpy())
    for mode in ("reduced", "complete"):
        for got, want in zip(LA.qr(a, mode=mode), TL.qr(torch.zeros(shape, dtype=torch.float64), mode), strict=True):
            assert got.shape == tuple(want.shape)
            np.testing.assert_array_equal(got.numpy(), want.numpy())
    assert LA.pinv(a).shape == (*shape[:-2], shape[-1], shape[-2])
    assert LA.matrix_rank(a).shape == shape[:-2]


def test_the_determinant_of_a_singular_matrix_has_its_gradient() -> None:
    a = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 0.0, 1.0]])
    found = td.grad(LA.det)(td.asarray(a)).numpy()
    cofactors = np.array(
        [[(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(a, i, 0), j, 1)) for j in range(3)] for i in range(3)]
    )
    np.testing.assert_allclose(found, cofactors, atol=1e-12)
    np.testing.assert_allclose(td.grad(LA.det)(td.asarray([[3.0]])).numpy(), [[1.0]])


def test_least_squares_says_all_that_numpy_does() -> None:
    for m, n, k in [(5, 3, 2), (3, 5, 2), (4, 4, 1)]:
        a, b = general(2, m, n), general(2, m, k)
        got = LA.lstsq(td.asarray(a), td.asarray(b))
        want = [np.linalg.lstsq(one, right, rcond=None) for one, right in zip(a, b, strict=True)]
        close(got.solution, np.stack([w[0] for w in want]))
        assert got.residuals.shape == ((2, k) if m > n else (0,))
        if m > n:
            close(got.residuals, np.stack([w[1] for w in want]))
        np.testing.assert_array_equal(got.rank.numpy(), [w[2] for w in want])
        close(got.singular_values, np.stack([w[3] for w in want]))
    a, b = general(2, 5, 3), general(2, 5)
    expected = [np.linalg.lstsq(one, right, rcond=None)[0] for one, right in zip(a, b, strict=True)]
    close(LA.lstsq(td.asarray(a), td.asarray(b)).solution, np.stack(expected))
    none = LA.lstsq(td.ones((6, 2)), td.zeros((6, 0)))
    assert (none.solution.shape, none.residuals.shape) == ((2, 0), (0,))
    low = np.ones((4, 3))
    assert int(LA.lstsq(td.asarray(low), td.asarray(np.ones(4))).rank) == 1


def test_solve_takes_vectors_and_batches() -> None:
    a, b = definite(2, 3, 3), general(3)
    close(LA.solve(td.asarray(a), td.asarray(b)), np.linalg.solve(a, b))
    close(LA.solve(td.asarray(a), td.asarray(general(5, 1, 3, 4))), np.linalg.solve(a, general(5, 1, 3, 4)))
    assert LA.solve(td.zeros((2, 0, 0)), td.zeros((0, 3))).shape == (2, 0, 3)
    with pytest.raises(
        td.ShapeError, match=r"solve: f64\[4,3,3\] and f64\[4,3\] do not fit.*need an axis more: b\[..., None\]"
    ):
        LA.solve(td.asarray(definite(4, 3, 3)), td.asarray(general(4, 3)))


def test_long_triangular_systems_are_solved_in_blocks() -> None:
    n = 150
    a, b = np.tril(general(n, n)) + 10 * np.eye(n), general(n, 7)
    close(LA.solve_triangular(td.asarray(a), td.asarray(b), upper=False), np.linalg.solve(a, b))
    close(LA.solve_triangular(td.asarray(a.T.copy()), td.asarray(b), upper=True), np.linalg.solve(a.T, b))


def test_tolerances_of_pinv() -> None:
    a = np.diag([1.0, 0.1, 1e-3])
    for rtol in (0.5, 0.01, 1e-9):
        close(LA.pinv(td.asarray(a), rtol=rtol), np.linalg.pinv(a, rtol=rtol))
    each = np.array([0.5, 0.01])
    close(LA.pinv(td.asarray(np.stack([a, a])), rtol=td.asarray(each)), np.linalg.pinv(np.stack([a, a]), rtol=each))
    s = symmetric(4, 4)
    close(LA.pinv(td.asarray(s), hermitian=True), np.linalg.pinv(s), 1e-8)


def test_the_triangle_that_is_read() -> None:
    a = general(4, 4)
    for uplo in "LU":
        np.testing.assert_allclose(LA.eigvalsh(td.asarray(a), uplo).numpy(), np.linalg.eigvalsh(a, uplo))
        values, vectors = LA.eigh(td.asarray(a), uplo)
        np.testing.assert_allclose(values.numpy(), np.linalg.eigvalsh(a, uplo))
        assert vectors.shape == (4, 4)
    spd = definite(3, 3)
    wrong_below, wrong_above = np.triu(spd), np.tril(spd)
    close(LA.cholesky(td.asarray(wrong_above)), np.linalg.cholesky(spd))
    close(LA.cholesky(td.asarray(wrong_below), upper=True), np.linalg.cholesky(spd).T)


# ---- what has no result


def spoiled(batch: int, place: int) -> Array:
    a = definite(batch, 3, 3)
    a[place] = 0
    return a


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (LA.cholesky, "cholesky: the matrix 3 of the batch is not positive definite."),
        (LA.inv, "inv: the matrix 3 of the batch is singular."),
        (lambda a: LA.solve(a, td.ones((3, 2), dtype=td.float64)), "solve: the matrix 3 of the batch is singular."),
    ],
)
def test_the_matrix_at_fault_is_named(call: Any, text: str) -> None:
    a = td.asarray(spoiled(5, 3))
    with pytest.raises(td.LinAlgError) as eager:
        call(a)  # at once, not when the result is read
    assert str(eager.value) == text
    assert "test_factorizations.py" in eager.value.__notes__[0]
    compiled = td.compile(lambda a: call(a) * 2)
    with pytest.raises(td.LinAlgError) as inside:
        compiled(a)
    assert str(inside.value) == text
    assert "test_factorizations.py" in inside.value.__notes__[0]
    np.testing.assert_array_equal(
        compiled(td.asarray(definite(5, 3, 3))).shape, call(td.asarray(definite(5, 3, 3))).shape
    )
    with pytest.raises(td.LinAlgError, match=r"the matrix \(1, 0\) of the batch"):
        call(td.asarray(spoiled(4, 2).reshape(2, 2, 3, 3)))
    with pytest.raises(td.LinAlgError, match="the matrix is"):
        call(td.zeros((3, 3), dtype=td.float64))


@pytest.mark.parametrize(
    "call", [LA.cholesky, LA.eigh, LA.eigvalsh, LA.svd, LA.svdvals, LA.pinv], ids=lambda f: f.__name__
)
def test_what_is_not_finite_is_refused(call: Any) -> None:
    with pytest.raises(td.LinAlgError, match="the matrix 1 of the batch has elements that are NaN or infinite"):
        call(td.asarray(np.stack([np.eye(3), np.full((3, 3), np.nan)])))


def test_a_run_goes_on_after_a_failure() -> None:
    @td.compile
    def both(a: td.Tensor, b: td.Tensor) -> td.Tensor:
        return LA.cholesky(a).sum() + b.sum()

    good, bad = td.eye(3), -td.eye(3)
    for _ in range(3):
        with pytest.raises(td.LinAlgError):
            both(bad, good)
        assert float(both(good, good)) == 6


def test_a_task_in_python_is_a_kernel_like_others() -> None:
    @td.compile
    def f(a: td.Tensor, b: td.Tensor) -> td.Tensor:
        return td.exp(-LA.solve(a + td.eye(4), b)) * 2

    plan = f.plan(td.asarray(definite(4, 4)), td.asarray(general(4, 2)))
    assert [step.kernel.kind for step in plan.steps] == ["loop", "host", "loop"]
    (kernel,) = [k for k in plan.explain().kernels if k.kind == "host"]
    assert (kernel.name, kernel.limit) == ("solve_4x2_f64", "host")
    assert plan.stages()["llvm:solve_4x2_f64"].startswith("; solve: runs in Python")


def test_threads_share_the_work_around_a_task_in_python() -> None:
    a, b = definite(3, 64, 64), general(512, 512)
    with td.config(threads=2):
        for _ in range(20):
            got = td.compile(lambda a, b: (LA.inv(a).sum(), td.exp(b @ b / 100).sum()))(td.asarray(a), td.asarray(b))
            np.testing.assert_allclose(float(got[0]), np.linalg.inv(a).sum(), rtol=1e-8)
            np.testing.assert_allclose(float(got[1]), np.exp(b @ b / 100).sum(), rtol=1e-8)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: LA.cholesky(td.ones((2, 3))), td.ShapeError, r"cholesky: f32\[2,3\] is not square"),
        (lambda: LA.inv(td.ones(3)), td.ShapeError, r"inv: takes matrices, got f32\[3\]"),
        (lambda: LA.det(td.ones((2, 2), dtype=td.int32)), td.DTypeError, "det: does not take int32. Allowed: float"),
        (lambda: LA.qr(td.ones((2, 2)), mode="r"), ValueError, "qr: mode 'r' is unknown"),
        (lambda: LA.eigh(td.ones((2, 2)), "X"), ValueError, "eigh: UPLO 'X' is unknown"),
        (
            lambda: LA.eig(td.ones((2, 2))),
            td.DTypeError,
            "eig: eigenvalues of matrices that are not symmetric are complex",
        ),
        (lambda: LA.eigvals(td.ones((2, 2))), td.DTypeError, "eigvals: .* complex"),
        (lambda: LA.solve(td.ones((2, 2)), td.ones((3, 1))), td.ShapeError, "solve: .* do not fit"),
        (
            lambda: LA.solve_triangular(td.ones((2, 2)), td.ones((3, 1)), upper=True),
            td.ShapeError,
            "solve_triangular: ",
        ),
        (lambda: LA.lstsq(td.ones((2, 2)), td.ones((3, 1))), td.ShapeError, "lstsq: .* has 2 rows"),
        (lambda: LA.lstsq(td.ones((2, 2)), td.ones(2), driver="x"), ValueError, "lstsq: driver 'x' is unknown"),
        (
            lambda: td.grad(lambda a: LA.qr(a, mode="complete").Q.sum())(td.ones((3, 2))),
            td.GradientError,
            "arbitrary choice",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_systems_of_tensors() -> None:
    import torch

    a, b = np.random.default_rng(0).standard_normal((2, 3, 6)), np.random.default_rng(1).standard_normal((2, 3))
    np.testing.assert_allclose(
        td.linalg.tensorsolve(a, b).numpy(), torch.linalg.tensorsolve(torch.tensor(a), torch.tensor(b)).numpy()
    )
    inverse = torch.linalg.tensorinv(torch.tensor(a.reshape(6, 2, 3)), ind=1)
    np.testing.assert_allclose(td.linalg.tensorinv(a.reshape(6, 2, 3), ind=1).numpy(), inverse.numpy())
    with pytest.raises(td.ShapeError, match=r"tensorinv: .* is a map of 18 numbers to 2"):
        td.linalg.tensorinv(a, ind=1)
    with pytest.raises(td.ShapeError, match="are no square system"):
        td.linalg.tensorsolve(a, b[:1])
