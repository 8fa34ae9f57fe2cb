"""Losses against PyTorch's: values and gradients of every argument and reduction, and far out; wrong input is named."""

import math
import warnings

import numpy as np
import pytest

import treadle as td
from tests.nn.functional.peer import agree, draw
from treadle.core import ConfigError, DTypeError, ShapeError
from treadle.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional
REDUCTIONS = ["mean", "sum", "none"]
rng = np.random.default_rng


def both(name: str, *arrays: np.ndarray, fixed: tuple[np.ndarray, ...] = (), rtol: float = 3e-5, **options) -> None:
    """Compare a loss of `arrays`, which have gradients, and `fixed`, which have none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "reduction: 'mean' divides")
        agree(
            lambda *xs: getattr(F, name)(*xs, **options),
            lambda *xs: getattr(TF, name)(*xs, **options),
            *arrays, fixed=fixed, rtol=rtol, compiled=True,
        )  # fmt: skip


def signs(*shape: int, seed: int = 5) -> np.ndarray:
    return np.where(rng(seed).random(shape) < 0.5, -1.0, 1.0).astype(np.float32)


def shares(*shape: int, seed: int = 6) -> np.ndarray:
    return rng(seed).random(shape).astype(np.float32)


def bits(*shape: int, seed: int = 7) -> np.ndarray:
    return (rng(seed).random(shape) < 0.5).astype(np.float32)


# --- of numbers


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 0)])
@pytest.mark.parametrize(
    ("name", "options"),
    [("mse_loss", {}), ("l1_loss", {}), ("huber_loss", {}), ("huber_loss", {"delta": 0.3}), ("smooth_l1_loss", {}),
     ("smooth_l1_loss", {"beta": 0.5}), ("smooth_l1_loss", {"beta": 0.0})],
)  # fmt: skip
def test_regression(name, options, shape, reduction):
    both(name, draw(*shape), draw(*shape, seed=1), reduction=reduction, **options)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss"])
def test_corners_and_large_differences(name):
    x = np.array([0.0, 1.0, -1.0, 1e4, -1e4, 0.5], np.float32)
    both(name, x, np.zeros_like(x), reduction="none")


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
def test_weights_of_numbers(name, reduction):
    agree(
        lambda x, y, w: getattr(F, name)(x, y, weight=w, reduction=reduction),
        lambda x, y, w: getattr(TF, name)(x, y, weight=w, reduction=reduction),
        draw(3, 4), draw(3, 4, seed=1), shares(3, 4),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss"])
def test_broadcasting_warns(name):
    with pytest.warns(UserWarning, match=r"input f32\[3,4\] and target f32\[4\] differ in shape and are broadcast"):
        found = getattr(F, name)(draw(3, 4), draw(4, seed=1))
    with pytest.warns(UserWarning, match="different to the input size"):
        expected = getattr(TF, name)(torch.tensor(draw(3, 4)), torch.tensor(draw(4, seed=1)))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("size_average", "reduce"),
    [(True, True), (False, True), (True, False), (False, False), (None, False), (False, None)],
)
@pytest.mark.filterwarnings("ignore:size_average and reduce")
def test_the_older_arguments(size_average, reduce):
    x, y = draw(3, 4), draw(3, 4, seed=1)
    agree(
        lambda x, y: F.mse_loss(x, y, size_average, reduce),
        lambda x, y: TF.mse_loss(x, y, size_average, reduce),
        x, y,
    )  # fmt: skip
    target = np.array([0, 3, 1])
    agree(
        lambda x: F.cross_entropy(x, target, None, size_average, 3, reduce),
        lambda x: TF.cross_entropy(x, torch.tensor(target), None, size_average, 3, reduce),
        x,
    )


# --- of distributions


@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("shape", [(), (3,), (4, 5), (0, 3)])
def test_kl_div(shape, log_target, reduction):
    target = draw(*shape, seed=1) if log_target else shares(*shape)
    both("kl_div", draw(*shape), target, log_target=log_target, reduction=reduction)


def test_kl_div_of_a_probability_of_zero():
    x, t = draw(3), np.array([0.0, 0.25, 0.75], np.float32)
    both("kl_div", x, fixed=(t,), reduction="none")


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    "options", [{}, {"full": True}, {"log_input": False}, {"log_input": False, "full": True}], ids=str
)
def test_poisson_nll_loss(options, reduction):
    counts = np.array([[0, 1, 2], [5, 1, 30]], np.float32)
    x = draw(2, 3) if options.get("log_input", True) else shares(2, 3) + 0.1
    both("poisson_nll_loss", x, fixed=(counts,), reduction=reduction, **options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("of_var", [(4, 3), (4, 1), (4,)], ids=str)
def test_gaussian_nll_loss(of_var, full, reduction):
    var = shares(*of_var)
    var.reshape(-1)[0] = 1e-9  # below eps
    both("gaussian_nll_loss", draw(4, 3), draw(4, 3, seed=1), var, full=full, reduction=reduction, eps=1e-3)


def test_gaussian_nll_loss_of_one_variance():
    both("gaussian_nll_loss", draw(4, 3), draw(4, 3, seed=1), var=0.5)


# --- of yes or no


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (0, 2)])
def test_binary_cross_entropy(shape, reduction):
    both("binary_cross_entropy", shares(*shape), shares(*shape, seed=1), reduction=reduction)
    both("binary_cross_entropy_with_logits", draw(*shape) * 4, shares(*shape, seed=1), reduction=reduction)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_weights_of_binary_cross_entropy(reduction):
    w, t, pos = shares(4, seed=2), bits(3, 4), shares(4, seed=3) * 5
    both("binary_cross_entropy", shares(3, 4), weight=None, fixed=(t,), reduction=reduction)
    agree(
        lambda x, t: F.binary_cross_entropy(x, t, w, reduction=reduction),
        lambda x, t: TF.binary_cross_entropy(x, t, torch.tensor(w), reduction=reduction),
        shares(3, 4), fixed=(t,),
    )  # fmt: skip
    for weight, pos_weight in ((w, None), (None, pos), (w, pos)):
        agree(
            lambda x, t, w=weight, p=pos_weight: F.binary_cross_entropy_with_logits(
                x, t, w, reduction=reduction, pos_weight=p
            ),
            lambda x, t, w=weight, p=pos_weight: TF.binary_cross_entropy_with_logits(
                x, t, None if w is None else torch.tensor(w), reduction=reduction,
                pos_weight=None if p is None else torch.tensor(p),
            ),
            draw(3, 4) * 4, shares(3, 4, seed=9),
        )  # fmt: skip


def test_probabilities_of_zero_and_one():
    p = np.array([0.0, 0.0, 1.0, 1.0, 0.0, 1.0], np.float32)
    t = np.array([0.0, 1.0, 0.0, 1.0, 0.5, 0.5], np.float32)
    both("binary_cross_entropy", p, fixed=(t,), reduction="none")


def test_large_logits():
    x = np.array([1e4, -1e4, 1e4, -1e4, 30.0, -30.0, 0.0, -0.0, 90.0, -90.0] * 2, np.float32)
    t = np.array([0, 0, 1, 1, 1, 0, 1, 0, 1, 0] * 2, np.float32)
    both("binary_cross_entropy_with_logits", x, fixed=(t,), reduction="none")
    both("multilabel_soft_margin_loss", x.reshape(2, 10), fixed=(t.reshape(2, 10),), reduction="none")
    agree(
        lambda x: F.binary_cross_entropy_with_logits(x, t, pos_weight=np.float32(3), reduction="none"),
        lambda x: TF.binary_cross_entropy_with_logits(
            x, torch.tensor(t), pos_weight=torch.tensor(3.0), reduction="none"
        ),
        x,
    )
    leaf = td.asarray(x).requires_grad_()
    for loss in (F.sigmoid_focal_loss(leaf, t, gamma=0.5), F.soft_margin_loss(leaf, t * 2 - 1, reduction="none")):
        loss.sum().backward()
        assert np.isfinite(np.asarray(loss.detach())).all()
        assert np.isfinite(np.asarray(leaf.grad)).all()


def test_no_digits_are_lost_in_a_small_loss():
    x, t = np.array([30.0, -30.0], np.float32), np.array([1.0, 0.0], np.float32)
    leaf = td.asarray(x).requires_grad_()
    loss = F.binary_cross_entropy_with_logits(leaf, t, reduction="none")
    loss.sum().backward()
    np.testing.assert_allclose(np.asarray(loss.detach()), math.exp(-30), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(leaf.grad), [-math.exp(-30), math.exp(-30)], rtol=1e-5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (-1.0, 1.5), (0.5, 0.0)])
def test_focal_loss(alpha, gamma, reduction):
    def theirs(x, t):
        p = torch.sigmoid(x)
        losses = (
            TF.binary_cross_entropy_with_logits(x, t, reduction="none") * (1 - (p * t + (1 - p) * (1 - t))) ** gamma
        )
        losses = losses * (alpha * t + (1 - alpha) * (1 - t)) if alpha >= 0 else losses
        return {"mean": torch.mean, "sum": torch.sum, "none": lambda x: x}[reduction](losses)

    agree(lambda x, t: F.sigmoid_focal_loss(x, t, alpha, gamma, reduction), theirs, draw(4, 5), fixed=(bits(4, 5),))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_soft_margin_losses(reduction):
    both("soft_margin_loss", draw(3, 4), fixed=(signs(3, 4),), reduction=reduction)
    both("multilabel_soft_margin_loss", draw(3, 4), fixed=(bits(3, 4),), reduction=reduction)
    w = shares(4)
    agree(
        lambda x, t: F.multilabel_soft_margin_loss(x, t, w, reduction=reduction),
        lambda x, t: TF.multilabel_soft_margin_loss(x, t, torch.tensor(w), reduction=reduction),
        draw(3, 4), fixed=(bits(3, 4),),
    )  # fmt: skip


# --- with margins


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("margin", [1.0, 0.2])
def test_pairs_with_a_margin(margin, reduction):
    both("hinge_embedding_loss", draw(4, 5), fixed=(signs(4, 5),), margin=margin, reduction=reduction)
    both("margin_ranking_loss", draw(6), draw(6, seed=1), fixed=(signs(6),), margin=margin, reduction=reduction)
    both(
        "cosine_embedding_loss",
        draw(6, 3),
        draw(6, 3, seed=1),
        fixed=(signs(6),),
        margin=margin / 4,
        reduction=reduction,
    )
    both("cosine_embedding_loss", draw(3), draw(3, seed=1), fixed=(signs(),), reduction=reduction)


def test_slopes_at_the_margin():
    x, zero = np.array([1.0, 1.0, 0.0], np.float32), np.zeros(3, np.float32)
    both("hinge_embedding_loss", x, fixed=(np.array([-1.0, 1.0, -1.0], np.float32),), reduction="none")
    both("margin_ranking_loss", x, zero, fixed=(np.array([1.0, -1.0, 1.0], np.float32),), margin=1.0, reduction="none")
    scores = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]], np.float32)
    both("multi_margin_loss", scores, fixed=(np.array([0, 2]),))
    both("multilabel_margin_loss", scores, fixed=(np.array([[0, -1, -1], [2, 1, -1]]),))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_multi_margin_loss(p, weighted, reduction):
    w = shares(5) if weighted else None
    for x, y in ((draw(4, 5), np.array([0, 4, 2, 2])), (draw(5), np.array(3)), (draw(5), np.array([3]))):
        agree(
            lambda x, y: F.multi_margin_loss(x, y, p, 0.7, w, reduction=reduction),
            lambda x, y: TF.multi_margin_loss(
                x, y, p, 0.7, None if w is None else torch.tensor(w), reduction=reduction
            ),
            x, fixed=(y,),
        )  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_multilabel_margin_loss(reduction):
    y = np.array([[3, 0, -1, 1], [-1, 0, 1, 2], [0, 1, 2, 3], [2, -1, 2, 2]])
    both("multilabel_margin_loss", draw(4, 4), fixed=(y,), reduction=reduction)
    both("multilabel_margin_loss", draw(4), fixed=(y[0],), reduction=reduction)


# --- of vectors


@pytest.mark.parametrize("p", [2.0, 1.0, 3.0, 1.5, 0.5, 0.0, math.inf, -math.inf])
@pytest.mark.parametrize("keepdim", [False, True])
def test_pairwise_distance(p, keepdim):
    # PyTorch's gradient of the norm of order 0 is 0, ours is none: compared through the sum of both.
    agree(
        lambda a, b: F.pairwise_distance(a, b, p, keepdim=keepdim) + (a + b).sum() * 0,
        lambda a, b: TF.pairwise_distance(a, b, p, keepdim=keepdim) + (a + b).sum() * 0,
        draw(4, 5), draw(4, 5, seed=1),
    )  # fmt: skip


def test_the_distance_of_equal_vectors_has_a_gradient():
    both("pairwise_distance", draw(2, 3), draw(2, 3), eps=0.0)
    both("pairwise_distance", draw(4, 3), draw(3, seed=1))
    both("pairwise_distance", draw(3), draw(3, seed=1))


@pytest.mark.parametrize(
    ("a", "b", "dim"), [((4, 5), (4, 5), 1), ((4, 5), (5,), -1), ((3, 4, 5), (3, 4, 5), 0), ((5,), (5,), 0)]
)
def test_cosine_similarity(a, b, dim):
    both("cosine_similarity", draw(*a), draw(*b, seed=1), dim=dim)


def test_the_cosine_of_a_zero_vector():
    x = np.zeros((2, 3), np.float32)
    assert np.asarray(F.cosine_similarity(x, draw(2, 3))).tolist() == [0, 0]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_triplet_margin_loss(p, swap, reduction):
    vectors = [draw(6, 4, seed=i) for i in range(3)]
    both("triplet_margin_loss", *vectors, p=p, swap=swap, margin=0.8, reduction=reduction)


def test_triplets_with_a_distance_of_their_own():
    a, b, c = (draw(6, 4, seed=i) for i in range(3))
    for swap in (False, True):
        agree(
            lambda a, b, c, s=swap: F.triplet_margin_with_distance_loss(
                a, b, c, distance_function=lambda x, y: 1 - F.cosine_similarity(x, y), swap=s
            ),
            lambda a, b, c, s=swap: TF.triplet_margin_with_distance_loss(
                a, b, c, distance_function=lambda x, y: 1 - TF.cosine_similarity(x, y), swap=s
            ),
            a, b, c,
        )  # fmt: skip
        both("triplet_margin_with_distance_loss", a, b, c, swap=swap)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("negatives", [None, (7, 4), (5, 3, 4)], ids=str)
def test_info_nce(negatives, reduction):
    def theirs(q, k, *n):
        q, k = TF.normalize(q, dim=-1), TF.normalize(k, dim=-1)
        if not n:
            return TF.cross_entropy(q @ k.T / 0.3, torch.arange(5), reduction=reduction)
        keys = TF.normalize(n[0], dim=-1)
        wrong = q @ keys.T if keys.ndim == 2 else torch.einsum("nd,nmd->nm", q, keys)
        logits = torch.cat([(q * k).sum(-1, keepdim=True), wrong], dim=1) / 0.3
        return TF.cross_entropy(logits, torch.zeros(5, dtype=torch.long), reduction=reduction)

    arrays = [draw(5, 4), draw(5, 4, seed=1), *([draw(*negatives, seed=2)] if negatives else [])]
    agree(lambda *xs: F.info_nce(*xs, temperature=0.3, reduction=reduction), theirs, *arrays)


# --- in general


def test_second_derivatives():
    x, y = draw(6, dtype=np.float64), draw(6, seed=1, dtype=np.float64)
    for name in ("binary_cross_entropy_with_logits", "soft_margin_loss", "gaussian_nll_loss", "poisson_nll_loss"):
        extra = (y * y + 0.1,) if name == "gaussian_nll_loss" else ()
        options = {"reduction": "sum"}
        t = torch.tensor(x, requires_grad=True)
        (first,) = torch.autograd.grad(
            getattr(TF, name)(t, torch.tensor(abs(y)), *map(torch.tensor, extra), **options), t, create_graph=True
        )
        (second,) = torch.autograd.grad((first**2).sum(), t)

        def slopes(x, name=name, extra=extra):
            slope = td.grad(lambda x: getattr(F, name)(x, abs(y), *extra, reduction="sum"))(x)
            return (slope * slope).sum()

        np.testing.assert_allclose(np.asarray(td.grad(slopes)(td.asarray(x))), second.numpy(), rtol=1e-8, err_msg=name)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize(
    "name",
    ["mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "binary_cross_entropy", "kl_div", "soft_margin_loss",
     "binary_cross_entropy_with_logits", "hinge_embedding_loss", "poisson_nll_loss"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
def test_dtypes(name, dtype):
    x, y = shares(5, 4), bits(5, 4)
    found = getattr(F, name)(td.asarray(x).astype(dtype), td.asarray(y).astype(dtype))
    expected = getattr(TF, name)(torch.tensor(x).to(getattr(torch, dtype)), torch.tensor(y).to(getattr(torch, dtype)))
    assert found.dtype.name == dtype
    tolerance = {"float16": 3e-3, "bfloat16": 2e-2, "float64": 1e-7}[dtype]
    assert float(found) == pytest.approx(float(expected), rel=tolerance)


@pytest.mark.parametrize(
    "loss",
    [F.huber_loss, F.binary_cross_entropy_with_logits, lambda x, y: F.sigmoid_focal_loss(x, y, reduction="mean")],
)
def test_a_loss_and_its_gradient_are_one_kernel(loss):
    plan = td.compile(td.value_and_grad(loss)).plan(draw(16, 8), bits(16, 8))
    assert len(plan.steps) == 1


def one(*shape: int) -> td.Tensor:
    return td.ones(shape)


WRONG = [
    (lambda: F.mse_loss(one(2), one(3)), ShapeError, r"input f32\[2\] and target f32\[3\] differ in shape"),
    (lambda: F.mse_loss(one(2), one(2), reduction="avg"), ConfigError, "mse_loss: reduction is 'avg'. Allowed: none"),
    (lambda: F.mse_loss(one(2), one(2), weight=one(1)), ShapeError, r"weight f32\[1\] does not have the input's shape"),
    (lambda: F.huber_loss(one(2), one(2), delta=0), ConfigError, "delta is 0. It must be above 0"),
    (lambda: F.smooth_l1_loss(one(2), one(2), beta=-1), ConfigError, "beta is -1. It must be at least 0"),
    (lambda: F.binary_cross_entropy(one(2), one(2, 1)), ShapeError, "differ in shape. They must be equal"),
    (lambda: F.binary_cross_entropy(one(2), one(2), one(3)), ShapeError, r"weight f32\[3\] does not broadcast"),
    (lambda: F.binary_cross_entropy_with_logits(one(2), one(2), pos_weight=one(3)), ShapeError, "pos_weight f32"),
    (lambda: F.sigmoid_focal_loss(one(2), one(2), gamma=-1), ConfigError, "gamma is -1"),
    (lambda: F.multilabel_soft_margin_loss(one(), one()), ShapeError, "input is a scalar"),
    (lambda: F.kl_div(one(2), one(2), reduction="avg"), ConfigError, "kl_div: reduction is 'avg'"),
    (lambda: F.gaussian_nll_loss(one(2), one(2), -1.0), ConfigError, r"var is -1\.0"),
    (lambda: F.gaussian_nll_loss(one(2), one(2), -np.ones(2)), ConfigError, r"var has the element -1\.0"),
    (lambda: F.gaussian_nll_loss(one(2, 3), one(2, 3), one(3)), ShapeError, r"var f32\[3\] does not fit"),
    (lambda: F.margin_ranking_loss(one(2), one(2), one()), ShapeError, "differ in their number of axes"),
    (lambda: F.multi_margin_loss(one(2, 3), td.asarray([0, 1]), p=3), ConfigError, "p is 3. Allowed: 1 and 2"),
    (lambda: F.multi_margin_loss(one(2, 3), td.asarray([0])), ShapeError, r"target i64\[1\] do not fit"),
    (lambda: F.multi_margin_loss(one(1, 3), one(1)), DTypeError, "targets have dtype float32"),
    (lambda: F.multi_margin_loss(one(1, 3), td.asarray([0]), weight=one(2)), ShapeError, "does not fit 3 classes"),
    (lambda: F.multilabel_margin_loss(one(2, 3), one(2, 3)), DTypeError, "targets have dtype float32"),
    (lambda: F.multilabel_margin_loss(one(2, 3, 1), one(2, 3, 1)), ShapeError, "has 3 axes"),
    (lambda: F.cosine_embedding_loss(one(2, 3), one(2, 3), one()), ShapeError, "do not fit. They must be"),
    (lambda: F.triplet_margin_loss(one(2), one(2), one(2), margin=0), ConfigError, "margin is 0"),
    (lambda: F.triplet_margin_loss(one(2), one(2), one(1, 2)), ShapeError, "differ in their number of axes"),
    (lambda: F.info_nce(one(2), one(2)), ShapeError, "must both be"),
    (lambda: F.info_nce(one(2, 3), one(2, 3), one(2, 2)), ShapeError, r"negative_keys f32\[2,2\] must be \[M, 3\]"),
    (lambda: F.info_nce(one(2, 3), one(2, 3), temperature=0), ConfigError, "temperature is 0"),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG)
def test_wrong_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_binary_cross_entropy_takes_probabilities():
    for p in (1.5, -0.1, float("nan")):
        with pytest.raises(td.DataError, match="Allowed: probabilities"):
            F.binary_cross_entropy(td.asarray([0.5, p]), td.asarray([1.0, 0.0]))
        with pytest.raises(td.DataError, match="Allowed: probabilities"):
            td.compile(F.binary_cross_entropy)(np.array([0.5, p]), np.array([1.0, 0.0]))


def test_multi_margin_loss_of_one_score():
    assert F.multi_margin_loss(td.asarray(0.3), td.asarray(0)).item() == 0
