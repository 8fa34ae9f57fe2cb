"""grad, vjp and jvp against PyTorch and against finite differences; gradients of gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle.autodiff import vjp_nodes

X = np.random.RandomState(0).uniform(0.2, 1.5, (3, 4))
W = np.random.RandomState(1).uniform(-1, 1, (4, 5))
I = np.array([[0, 2], [1, -1]])


def torch_at(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[1:, ::2] = w[:2, :2]
    return y.index_put((torch.tensor([0, 0]), torch.tensor([1, 1])), w[0, :2], accumulate=True)


# name -> (treadle, PyTorch), functions of x [3, 4] and w [4, 5]
FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "arithmetic": (lambda x, w: (x * x[0] - 2 / x + x**3 - (-x)), lambda x, w: (x * x[0] - 2 / x + x**3 - (-x))),
    "power": (lambda x, w: x ** x[0], lambda x, w: x ** x[0]),
    "matmul": (lambda x, w: (x @ w) @ w.T, lambda x, w: (x @ w) @ w.T),
    "batched": (lambda x, w: td.stack([x, x * 2]) @ w, lambda x, w: torch.stack([x, x * 2]) @ w),
    "vectors": (lambda x, w: (x[0] @ w) * (w @ w[0])[0], lambda x, w: (x[0] @ w) * (w @ w[0])[0]),
    "mlp": (lambda x, w: td.tanh(x @ w).softmax(-1), lambda x, w: torch.tanh(x @ w).softmax(-1)),
    "log_softmax": (lambda x, w: (x @ w).log_softmax(1), lambda x, w: (x @ w).log_softmax(1)),
    "logsumexp": (lambda x, w: td.logsumexp(x @ w, axis=1), lambda x, w: torch.logsumexp(x @ w, 1)),
    "unary": (
        lambda x, w: td.exp(x) + td.log(x) + x.sqrt() + x.sin() * x.cos() + x.sigmoid() + x.erf() + x.rsqrt(),
        lambda x, w: torch.exp(x) + torch.log(x) + x.sqrt() + x.sin() * x.cos() + x.sigmoid() + x.erf() + x.rsqrt(),
    ),
    "mean and var": (
        lambda x, w: (x - x.mean(1, keepdims=True)) / (x.var(1, keepdims=True) + 1e-5) ** 0.5 + x.std(correction=1),
        lambda x, w: (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5) ** 0.5 + x.std(),
    ),
    "reductions": (
        lambda x, w: x.sum(0) * x.prod(1).sum() + x.max(0) - x.min() + x.sum((0, 1)),
        lambda x, w: x.sum(0) * x.prod(1).sum() + x.amax(0) - x.amin() + x.sum((0, 1)),
    ),
    "shapes": (
        lambda x, w: td.concat([x.reshape(2, 6), x.T.reshape(2, 6)[:, ::-1]], axis=1).permute(1, 0)[1:9:3],
        lambda x, w: torch.cat([x.reshape(2, 6), x.T.reshape(2, 6).flip(1)], 1).permute(1, 0)[1:9:3],
    ),
    "indexing": (
        lambda x, w: x[I, :2].sum(0) + x[0, I] + w[I[:, 0]][:2, :2],
        lambda x, w: x[I, :2].sum(0) + x[0, I] + w[I[:, 0]][:2, :2],
    ),
    "mask": (
        lambda x, w: x[X > 1] * 3 + td.where(X > 1, x, x * x).sum(),
        lambda x, w: x[X > 1] * 3 + torch.where(torch.tensor(X > 1), x, x * x).sum(),
    ),
    "splitting": (
        lambda x, w: x.split(2, 1)[1] * td.unstack(x)[0][:2],
        lambda x, w: x.split(2, 1)[1] * x.unbind()[0][:2],
    ),
    "padding": (
        lambda x, w: td.pad(x, 1)[:, 1:] @ w[:, :1].broadcast_to(4, 5).reshape(5, 4)[:, :2],
        lambda x, w: (
            torch.nn.functional.pad(x, (1, 1, 1, 1))[:, 1:] @ w[:, :1].broadcast_to(4, 5).reshape(5, 4)[:, :2]
        ),
    ),
    "triangle": (lambda x, w: (x.T @ x).tril(), lambda x, w: (x.T @ x).tril()),
    "tensordot": (lambda x, w: td.tensordot(x, w, axes=1), lambda x, w: torch.tensordot(x, w, 1)),
    "clip": (
        lambda x, w: x.clip(0.5, 1.0) * td.maximum(x, 0.7) + td.minimum(x, x[0]),
        lambda x, w: x.clip(0.5, 1.0) * torch.clamp(x, min=0.7) + torch.minimum(x, x[0]),
    ),
    "at": (lambda x, w: x.at[1:, ::2].set(w[:2, :2]).at[[0, 0], 1].add(w[0, :2]), torch_at),
    "take_along": (
        lambda x, w: td.take_along_axis(x, I[:, :1].repeat(4, 1), axis=0),
        lambda x, w: torch.gather(x, 0, torch.tensor(I[:, :1].repeat(4, 1) % 3)),
    ),
}  # fmt: skip


def weighed(value: Any) -> Any:
    """Return a scalar in which every element has its own weight."""
    flat = value.reshape(-1)
    weights = np.cos(np.arange(flat.shape[0]))
    return (flat * (torch.tensor(weights) if isinstance(value, torch.Tensor) else weights)).sum()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_are_pytorchs(name: str) -> None:
    ours, theirs = FUNCTIONS[name]
    x, w = torch.tensor(X, requires_grad=True), torch.tensor(W, requires_grad=True)
    loss = weighed(theirs(x, w))
    loss.backward()

    def loss_of(*args: td.Tensor) -> td.Tensor:
        return weighed(ours(*args))

    value, (dx, dw) = td.value_and_grad(loss_of, (0, 1))(td.asarray(X), td.asarray(W))
    np.testing.assert_allclose(value.item(), loss.item(), rtol=1e-9)
    for got, want, like in ((dx, x.grad, X), (dw, w.grad, W)):
        assert got.dtype is td.float64
        expected = np.zeros_like(like) if want is None else want.numpy()
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n not in ("clip", "at")])
def test_second_derivatives_are_pytorchs(name: str) -> None:
    ours, theirs = FUNCTIONS[name]
    x, w = torch.tensor(X, requires_grad=True), torch.tensor(W, requires_grad=True)
    (inner,) = torch.autograd.grad(weighed(theirs(x, w)), x, create_graph=True)
    want = torch.zeros(3, 4, dtype=torch.float64)
    if inner.requires_grad:
        want = torch.autograd.grad((inner * inner).sum(), x, allow_unused=True)[0]
        want = torch.zeros(3, 4, dtype=torch.float64) if want is None else want

    def outer(x: td.Tensor) -> td.Tensor:
        first = td.grad(lambda y: weighed(ours(y, td.asarray(W))))(x)
        return (first * first).sum()

    np.testing.assert_allclose(td.grad(outer)(td.asarray(X)).numpy(), want.numpy(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_jvp_is_the_directional_derivative(name: str) -> None:
    ours, _ = FUNCTIONS[name]
    direction = np.random.RandomState(2).randn(3, 4)
    function = lambda x: ours(x, td.asarray(W))  # noqa: E731
    value, change = td.jvp(function, (td.asarray(X),), (td.asarray(direction),))
    np.testing.assert_allclose(value.numpy(), function(td.asarray(X)).numpy())
    if name == "clip":
        return  # kinks: a finite step may cross one
    eps = 1e-6
    ahead, behind = (function(td.asarray(X + s * eps * direction)).numpy() for s in (1, -1))
    np.testing.assert_allclose(change.numpy(), (ahead - behind) / (2 * eps), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [td.float16, td.bfloat16, td.float32, td.float64], ids=str)
def test_gradients_have_the_dtype_of_what_they_belong_to(dtype: td.DType) -> None:
    gradient = td.grad(lambda x: (td.exp(x) * x.mean()).sum())(td.ones((2, 3), dtype=dtype))
    assert gradient.dtype is dtype
    np.testing.assert_allclose(gradient.numpy().astype(np.float32), 2 * np.e, rtol=2e-2)
    mixed = td.grad(lambda x: (x * td.ones(3, dtype=td.float64)).sum())(td.ones(3, dtype=dtype))
    assert mixed.dtype is dtype


def test_third_derivative() -> None:
    f = lambda x: x**4  # noqa: E731
    for expected in (32.0, 48.0, 48.0, 24.0, 0.0):
        f = td.grad(f)
        assert f(td.asarray(2.0)).item() == expected


def test_containers_and_aux() -> None:
    params = {"w": td.asarray([1.0, 2.0]), "rest": [td.asarray(3.0), (td.asarray(4.0), None)]}

    def loss(p: Any, scale: float) -> Any:
        return (p["w"] * p["rest"][0] * scale).sum() + p["rest"][1][0] ** 2, {"seen": p["w"]}

    gradient, aux = td.grad(loss, has_aux=True)(params, 2.0)
    assert gradient["w"].tolist() == [6.0, 6.0]
    assert gradient["rest"][0].item() == 6.0
    assert gradient["rest"][1][0].item() == 8.0
    assert gradient["rest"][1][1] is None
    assert aux["seen"].tolist() == [1.0, 2.0]
    (value, aux), _ = td.value_and_grad(loss, has_aux=True)(params, 2.0)
    assert value.item() == 34.0


def test_the_same_tensor_twice_is_two_arguments() -> None:
    x = td.asarray(3.0)
    da, db = td.grad(lambda a, b: a * a * b, (0, 1))(x, x)
    assert (da.item(), db.item()) == (18.0, 9.0)
    assert td.grad(lambda a: a * x)(x).item() == 3.0
    assert td.grad(lambda a, b: a - b, 1)(x, x).item() == -1.0
    assert td.grad(lambda a: td.asarray(1.0))(x).item() == 0.0


def test_vjp() -> None:
    out, back = td.vjp(lambda x, w: {"y": x @ w, "s": x.sum()}, td.asarray(X), td.asarray(W))
    dx, dw = back({"y": td.ones((3, 5), dtype=td.float64), "s": td.asarray(2.0, dtype=td.float64)})
    np.testing.assert_allclose(out["y"].numpy(), X @ W)
    np.testing.assert_allclose(dx.numpy(), np.ones((3, 5)) @ W.T + 2)
    np.testing.assert_allclose(dw.numpy(), X.T @ np.ones((3, 5)))
    with pytest.raises(td.GradientError, match="not nested as the function's result"):
        back(td.ones(3))
    with pytest.raises(td.ShapeError, match=r"a cotangent is .* its counterpart"):
        back({"y": td.ones((3, 5)), "s": td.asarray(2.0)})


def test_attention_has_first_and_second_derivatives() -> None:
    from treadle import ops
    from treadle.ir import results
    from treadle.tensor import made

    def attention(q: td.Tensor, k: td.Tensor, v: td.Tensor) -> td.Tensor:
        out = results(ops.Attention(True, 0.5)(q.node, k.node, v.node))[0]
        return made(out, q, k, v)

    def plain(q: td.Tensor, k: td.Tensor, v: td.Tensor) -> td.Tensor:
        scores = q @ k.mT * 0.5
        allowed = td.ones((5, 5), dtype=td.bool).tril()
        return td.where(allowed, scores, -td.inf).softmax(-1) @ v

    args = [td.asarray(np.random.randn(2, 3, 5, 4)) for _ in range(3)]
    for which in (0, 1, 2):
        first = [td.grad(lambda *a, f=f: (f(*a) ** 2).sum(), which)(*args).numpy() for f in (attention, plain)]
        np.testing.assert_allclose(first[0], first[1], rtol=1e-8, atol=1e-10)
    second = [
        td.grad(lambda *a, f=f: (td.grad(lambda *b: (f(*b) ** 2).sum())(*a) ** 2).sum(), 1)(*args).numpy()
        for f in (attention, plain)
    ]
    np.testing.assert_allclose(second[0], second[1], rtol=1e-7, atol=1e-9)


def test_the_order_of_additions_is_fixed() -> None:
    def program() -> Any:
        x = td.asarray([0.1, 0.2], requires_grad=True)
        y = sum((x * float(k) for k in range(1, 30)), x)
        node = vjp_nodes([y.sum().node], [td.asarray(1.0).node], [x.node])[0]
        return td.tensor.lift([node]).graph if node is not None else None

    assert program() == program()


def test_gradients_belong_to_the_line_of_their_op() -> None:
    x = td.asarray([1.0], requires_grad=True)
    y = td.tanh(x)
    source = y.node.source
    (gradient,) = vjp_nodes([y.node], [td.ones(1).node], [x.node])
    assert gradient is not None
    assert gradient.source == source
    assert source is not None
    assert source.file == __file__


@pytest.mark.parametrize(
    ("function", "args", "options", "message"),
    [
        (lambda x: x * 2, (td.ones(3),), {}, r"grad: the function returned f32\[3\]; only a scalar has a gradient"),
        (lambda x: x.sum(), (td.asarray([1, 2]),), {}, r"an argument to differentiate is i64\[2\]; only floats"),
        (lambda x: x.sum().astype(td.int32), (td.ones(3),), {}, "the function returned i32"),
        (lambda x: 1.0, (td.ones(3),), {}, "the function returned float, not a tensor"),
        (lambda x: x.sum(), (td.ones(3),), {"argnums": 1}, "argnums names argument 1, the function got 1"),
    ],
)  # fmt: skip
def test_what_has_no_gradient(function: Any, args: Any, options: Any, message: str) -> None:
    with pytest.raises(td.GradientError, match=message):
        td.grad(function, **options)(*args)


CORNERS = np.array([-30.0, -2.0, -1.0, -0.0, 0.0, 1.0, 1.0, 2.0, 30.0], np.float32)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda x, y: td.clip(x, -1), lambda x, y: x.clamp(min=-1)),
        (lambda x, y: td.clip(x, None, 1), lambda x, y: x.clamp(max=1)),
        (td.clip, lambda x, y: x.clamp(min=y)),
        (lambda x, y: td.clip(x, y - 1, y), lambda x, y: x.clamp(y - 1, y)),
        (td.logaddexp, torch.logaddexp),  # small weights keep their digits
        (td.atan2, torch.atan2),
        (td.nextafter, torch.nextafter),
        (lambda x, y: td.std(x * 0 + 2, axis=0) + y, lambda x, y: torch.std(x * 0 + 2, 0, correction=0) + y),
        (lambda x, y: td.std(x, axis=1) + y, lambda x, y: torch.std(x, 1, correction=0) + y),
        (lambda x, y: td.max(y * x[4] + x[5], axis=0), lambda x, y: torch.amax(y * x[4] + x[5], 0)),
    ],
)
def test_slopes_at_corners_are_those_of_torch(ours: Any, theirs: Any) -> None:
    pair = [a.copy() for a in np.meshgrid(CORNERS, CORNERS, indexing="ij")]
    xs = [td.asarray(a).requires_grad_() for a in pair]
    ts = [torch.tensor(a, requires_grad=True) for a in pair]
    y, z = ours(*xs), theirs(*ts)
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-6)
    y.sum().backward()
    z.sum().backward()
    for x, t in zip(xs, ts, strict=True):
        wanted = np.zeros(x.shape) if t.grad is None else t.grad.numpy()
        np.testing.assert_allclose(np.zeros(x.shape) if x.grad is None else x.grad.numpy(), wanted, rtol=2e-6)
