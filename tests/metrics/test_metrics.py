"""Metrics against scikit-learn: values, ties, weights, one class only; shards merged in any order equal one pass."""

import itertools
import math
import warnings

import numpy as np
import pytest

import treadle as td
from treadle import metrics
from treadle.core import CheckpointError, ConfigError, DataError

sk = pytest.importorskip("sklearn.metrics")
N, C = 60, 4
rng = np.random.default_rng(0)
Y = rng.integers(0, C, N)
LOGITS = rng.standard_normal((N, C)).round(1) + np.eye(C)[Y]  # rounded: with ties
P = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
CHOSEN = LOGITS.argmax(1)
W = rng.random(N)
BITS = rng.integers(0, 2, N)
SCORES = (0.3 * BITS + 0.7 * rng.random(N)).round(2)
A, B = rng.standard_normal((2, N))
LABELS = rng.random((N, C)) < 0.4
GUESSES = rng.random((N, C)) < 0.5

close = {"rtol": 1e-12, "atol": 1e-14}

# A metric, its data, the value of scikit-learn without and with weights.
CASES = {
    "accuracy": (metrics.Accuracy, (LOGITS, Y), lambda w: sk.accuracy_score(Y, CHOSEN, sample_weight=w)),
    "accuracy of numbers": (metrics.Accuracy, (CHOSEN, Y), lambda w: sk.accuracy_score(Y, CHOSEN, sample_weight=w)),
    "accuracy of bits": (
        metrics.Accuracy, (SCORES, BITS), lambda w: sk.accuracy_score(BITS, SCORES >= 0.5, sample_weight=w)),
    "confusion": (
        lambda: metrics.ConfusionMatrix(C), (LOGITS, Y), lambda w: sk.confusion_matrix(Y, CHOSEN, sample_weight=w)),
    **{
        f"confusion {how}": (
            lambda how=how: metrics.ConfusionMatrix(C, normalize=how), (LOGITS, Y),
            lambda w, how=how: sk.confusion_matrix(Y, CHOSEN, sample_weight=w, normalize=how))
        for how in ("true", "pred", "all")
    },
    **{
        f"{name} {average}": (
            lambda cls=cls, average=average: cls(C, average=average), (LOGITS, Y),
            lambda w, f=f, average=average: f(
                Y, CHOSEN, average=None if average == "none" else average, sample_weight=w))
        for (name, cls, f), average in itertools.product(
            [("precision", metrics.Precision, sk.precision_score), ("recall", metrics.Recall, sk.recall_score),
             ("f1", metrics.F1, sk.f1_score)], ["micro", "macro", "weighted", "none"])
    },
    **{
        f"{name} of labels": (
            lambda cls=cls: cls(C, average="macro", multilabel=True), (GUESSES, LABELS),
            lambda w, f=f: f(LABELS, GUESSES, average="macro", sample_weight=w))
        for name, cls, f in [("precision", metrics.Precision, sk.precision_score), ("f1", metrics.F1, sk.f1_score)]
    },
    "f1 binary": (
        lambda: metrics.F1(average="binary"), (SCORES, BITS),
        lambda w: sk.f1_score(BITS, SCORES >= 0.5, sample_weight=w)),
    "roc auc": (metrics.ROCAUC, (SCORES, BITS), lambda w: sk.roc_auc_score(BITS, SCORES, sample_weight=w)),
    "roc auc of classes": (
        lambda: metrics.ROCAUC(C), (P, Y),
        lambda w: np.mean([sk.roc_auc_score(c == Y, P[:, c], sample_weight=w) for c in range(C)])),
    "average precision": (
        metrics.AveragePrecision, (SCORES, BITS), lambda w: sk.average_precision_score(BITS, SCORES, sample_weight=w)),
    "average precision of classes": (
        lambda: metrics.AveragePrecision(C, average="none"), (P, Y),
        lambda w: [sk.average_precision_score(c == Y, P[:, c], sample_weight=w) for c in range(C)]),
    "log loss": (metrics.LogLoss, (P, Y), lambda w: sk.log_loss(Y, P, sample_weight=w)),
    "log loss of bits": (metrics.LogLoss, (SCORES, BITS), lambda w: sk.log_loss(BITS, SCORES, sample_weight=w)),
    "mse": (metrics.MSE, (A, B), lambda w: sk.mean_squared_error(B, A, sample_weight=w)),
    "rmse": (metrics.RMSE, (A, B), lambda w: sk.root_mean_squared_error(B, A, sample_weight=w)),
    "mae": (metrics.MAE, (A, B), lambda w: sk.mean_absolute_error(B, A, sample_weight=w)),
    "r2": (metrics.R2, (A, B), lambda w: sk.r2_score(B, A, sample_weight=w)),
    "poisson deviance": (
        metrics.PoissonDeviance, (np.exp(A), Y), lambda w: sk.mean_poisson_deviance(Y, np.exp(A), sample_weight=w)),
}  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_one_pass(name, weighted):
    make, data, expected = CASES[name]
    w = W if weighted else None
    np.testing.assert_allclose(make().update(*data, w).compute(), expected(w), **close)


@pytest.mark.parametrize("name", CASES)
def test_shards_merge_in_any_order(name):
    make, data, _ = CASES[name]
    whole = make().update(*data, W).compute()
    edges = [0, 1, 20, 20, 45, N]  # one example, none, many
    for order in itertools.islice(itertools.permutations(range(5)), 0, None, 17):
        shards = [make().update(*[d[a:b] for d in (*data, W)]) for a, b in itertools.pairwise(edges)]
        first, *rest = (shards[i] for i in order)
        np.testing.assert_allclose(first.merge(*rest).compute(), whole, rtol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_tensors_and_lists_are_taken(name):
    make, data, expected = CASES[name]
    for convert in (td.asarray, lambda d: d.tolist()):
        found = make().update(*[convert(d) for d in data], convert(W)).compute()
        np.testing.assert_allclose(found, expected(W), **close)


@pytest.mark.parametrize("name", CASES)
def test_state_goes_round(name):
    make, data, _ = CASES[name]
    metric, other = make().update(*data), make()
    other.load_state_dict(metric.state_dict())
    np.testing.assert_array_equal(other.update(*data, W).compute(), metric.update(*data, W).compute())
    assert all(isinstance(v, np.ndarray) and v.dtype.itemsize == 8 for v in metric.state.values())
    np.testing.assert_array_equal(metric.reset().update(*data).compute(), make().update(*data).compute())


@pytest.mark.parametrize("name", CASES)
def test_nothing_seen(name):
    make = CASES[name][0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = np.asarray(make().compute())
    # There is nothing to say, or by convention 0.
    assert np.all(np.isnan(found) | (found == 0))


# --- accuracy


def test_top_k():
    scores = rng.random((N, C))
    for k in range(1, C):
        expected = sk.top_k_accuracy_score(Y, scores, k=k)
        assert metrics.Accuracy(k).update(scores, Y).compute() == pytest.approx(expected)
    assert metrics.Accuracy(C + 3).update(scores, Y).compute() == 1


@pytest.mark.parametrize(("k", "expected"), [(1, 1 / 3), (2, 2 / 3), (3, 1.0)])
def test_of_equal_scores_the_first_class_counts_as_highest(k, expected):
    assert metrics.Accuracy(k).update(np.zeros((3, 3)), [0, 1, 2]).compute() == pytest.approx(expected)


def test_nan_is_never_right():
    scores = np.full((3, 3), math.nan)
    assert metrics.Accuracy(2).update(scores, [0, 1, 2]).compute() == 0


def test_more_axes_and_ignored_targets():
    scores, y = rng.random((5, C, 7)), rng.integers(0, C, (5, 7))
    y[0] = -100
    expected = (scores.argmax(1) == y)[1:].mean()
    for k in (1, 2):
        found = metrics.Accuracy(k, ignore_index=-100).update(scores, y).compute()
        rows = np.moveaxis(scores, 1, -1)[1:].reshape(-1, C)
        assert found == pytest.approx(expected if k == 1 else sk.top_k_accuracy_score(y[1:].ravel(), rows, k=2))


# --- precision, recall, F1


@pytest.mark.parametrize("average", ["micro", "macro", "weighted", "none"])
@pytest.mark.parametrize("zero_division", [0.0, 1.0, math.nan])
@pytest.mark.parametrize(
    ("cls", "f"),
    [(metrics.Precision, sk.precision_score), (metrics.Recall, sk.recall_score), (metrics.F1, sk.f1_score)],
)
def test_classes_without_examples(cls, f, zero_division, average):
    y, x = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 3])  # 2 is never predicted, 3 never true, 4 neither
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = f(y, x, labels=range(5), average=None if average == "none" else average, zero_division=zero_division)
    found = cls(5, average=average, zero_division=zero_division).update(x, y).compute()
    np.testing.assert_allclose(found, expected, **close)


# --- ranking


@pytest.mark.parametrize("cls", [metrics.ROCAUC, metrics.AveragePrecision])
def test_all_scores_equal(cls):
    expected = 0.5 if cls is metrics.ROCAUC else BITS.mean()
    assert cls().update(np.full(N, 0.3), BITS).compute() == pytest.approx(expected)


def test_a_class_that_is_missing():
    assert math.isnan(metrics.ROCAUC().update([0.1, 0.9], [1, 1]).compute())
    assert math.isnan(metrics.ROCAUC().update([0.1, 0.9], [0, 0]).compute())
    assert metrics.AveragePrecision().update([0.1, 0.9], [1, 1]).compute() == 1
    assert math.isnan(metrics.AveragePrecision().update([0.1, 0.9], [0, 0]).compute())


@pytest.mark.parametrize("cls", [metrics.ROCAUC, metrics.AveragePrecision])
def test_bins_count_scores_in_one_as_equal(cls):
    x = rng.random(500)
    y = (rng.random(500) < x).astype(int)
    f = sk.roc_auc_score if cls is metrics.ROCAUC else sk.average_precision_score
    w = rng.random(500)
    found = cls(bins=20).update(x[:200], y[:200], w[:200]).merge(cls(bins=20).update(x[200:], y[200:], w[200:]))
    assert found.compute() == pytest.approx(f(y, np.floor(x * 20), sample_weight=w), rel=1e-12)
    assert cls(bins=10_000).update(x, y).compute() == pytest.approx(f(y, x), rel=1e-3)
    assert found.state["positive"].shape == (1, 20)
    assert cls(bins=2).update([0.0, 1.0], [0, 1]).compute() == 1


def test_averages_of_classes():
    weighted = metrics.ROCAUC(C, average="weighted").update(P, Y).compute()
    assert weighted == pytest.approx(sk.roc_auc_score(Y, P, multi_class="ovr", average="weighted"), rel=1e-12)
    assert metrics.ROCAUC(C, average=None).update(P, Y).compute().shape == (C,)


# --- probabilities


def test_log_loss_of_certainty_is_finite():
    for dtype in (np.float32, np.float64):
        p, y = np.array([[1, 0], [0, 1]], dtype), [1, 1]
        assert metrics.LogLoss().update(p, y).compute() == pytest.approx(sk.log_loss(y, p, labels=[0, 1]), rel=1e-6)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("binary", [False, True])
def test_calibration_error(norm, binary):
    confidence, right = (SCORES, BITS == 1) if binary else (P.max(1), CHOSEN == Y)
    gaps, sizes = [], []
    for k in range(10):
        chosen = (confidence > k / 10) & (confidence <= (k + 1) / 10) | ((k == 0) & (confidence == 0))
        if chosen.any():
            gaps.append(abs(right[chosen].mean() - confidence[chosen].mean()))
            sizes.append(chosen.sum() / N)
    gaps, sizes = np.array(gaps), np.array(sizes)
    expected = {"l1": (gaps * sizes).sum(), "l2": math.sqrt((gaps**2 * sizes).sum()), "max": gaps.max()}[norm]
    data = (SCORES, BITS) if binary else (P, Y)
    parts = [metrics.CalibrationError(10, norm=norm).update(*[d[s] for d in data]) for s in (slice(25), slice(25, N))]
    assert parts[1].merge(parts[0]).compute() == pytest.approx(expected, rel=1e-12)


def test_perplexity():
    logits = rng.standard_normal((3, 5, 7)).astype(np.float32) * 5
    tokens = rng.integers(0, 7, (3, 5))
    tokens[0, :2] = -100
    logs = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum(-1, keepdims=True))
    kept = tokens != -100
    expected = np.exp(-np.take_along_axis(logs, np.where(kept, tokens, 0)[..., None], -1)[..., 0][kept].mean())
    one = metrics.Perplexity().update(logits, tokens)
    assert one.compute() == pytest.approx(expected, rel=1e-6)
    two = [metrics.Perplexity().update(td.asarray(logits[i]), tokens[i]) for i in range(3)]
    assert two[2].merge(two[0], two[1]).compute() == pytest.approx(expected, rel=1e-6)
    assert metrics.Perplexity().update(np.zeros((2, 9)), [0, 8]).compute() == pytest.approx(9)
    assert metrics.Perplexity().update([[0.0, -1e4]], [1]).compute() == math.inf


# --- numbers


def test_mean_is_over_examples_and_not_over_batches():
    mean = metrics.Mean().update(2.0, 3).update(td.asarray(8.0), 1)
    assert mean.compute() == 3.5
    assert metrics.Mean().update([[1.0, 2.0], [3.0, 4.0]], [1, 0, 0, 1]).merge(mean).compute() == pytest.approx(19 / 6)


def test_r2_of_targets_far_from_zero():
    y = B + 1e8
    expected = sk.r2_score(B, A)
    parts = [metrics.R2().update(A[i::3] + 1e8, y[i::3]) for i in range(3)]
    assert parts[0].merge(parts[2], parts[1]).compute() == pytest.approx(expected, rel=1e-6)
    assert metrics.R2().update([1.0, 1.0], [1.0, 1.0]).compute() == 1
    assert metrics.R2().update([1.0, 2.0], [1.0, 1.0]).compute() == 0
    assert math.isnan(metrics.R2().update([1.0], [1.0]).compute())


def test_short_floats():
    x = td.asarray([0.5, 1.5]).astype("bfloat16")
    assert metrics.MAE().update(x, td.asarray([0.0, 0.0])).compute() == 1


# --- errors


def seen(metric, *data):
    return metric.update(*data)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: metrics.Accuracy(0), ConfigError, "top_k is 0"),
        (lambda: metrics.F1(1), ConfigError, "num_classes is 1. It must be at least 2"),
        (lambda: metrics.F1(3, average="binary"), ConfigError, "'binary' needs 2 classes, not 3"),
        (lambda: metrics.F1(3, average="x"), ConfigError, "average is 'x'. Allowed: binary, micro"),
        (lambda: metrics.ConfusionMatrix(3, normalize="x"), ConfigError, "normalize is 'x'"),
        (lambda: metrics.ROCAUC(bins=1), ConfigError, "bins is 1"),
        (lambda: metrics.ROCAUC(average="x"), ConfigError, "average is 'x'"),
        (lambda: metrics.CalibrationError(0), ConfigError, "bins is 0"),
        (lambda: metrics.CalibrationError(norm="l3"), ConfigError, "norm is 'l3'. Allowed: l1, l2, max"),
        (lambda: seen(metrics.Accuracy(), np.zeros((2, 3)), [0]), DataError, r"target \[1\] do not fit"),
        (lambda: seen(metrics.Accuracy(2), [0, 1], [0, 1]), DataError, "top_k needs scores"),
        (lambda: seen(metrics.Accuracy(), [0, 1], [0, 0.5]), DataError, "targets are not whole"),
        (lambda: seen(metrics.Accuracy(), [0, 1], [0, 1], [1.0]), DataError, "there are 1 weights for 2 examples"),
        (lambda: seen(metrics.Accuracy(), ["a"], ["a"]), DataError, "cannot take data of dtype"),
        (lambda: seen(metrics.F1(2), [0, 2], [0, 1]), DataError, "input has classes from 0 to 2. Allowed: 0 to 1"),
        (lambda: seen(metrics.F1(2, multilabel=True), [0, 1], [0, 1]), DataError, r"must both be \[N, 2\]"),
        (lambda: seen(metrics.MSE(), [0.0], [[0.0]]), DataError, "differ in shape"),
        (lambda: seen(metrics.PoissonDeviance(), [0.0], [1]), DataError, "rates go down to 0.0"),
        (lambda: seen(metrics.PoissonDeviance(), [1.0], [-1]), DataError, "counts to -1.0. Rates must be above 0"),
        (lambda: seen(metrics.ROCAUC(), [0.5, math.nan], [0, 1]), DataError, "scores have NaN"),
        (lambda: seen(metrics.ROCAUC(), [0.5], [2]), DataError, "targets go from 2 to 2. Allowed: 0 to 1"),
        (lambda: seen(metrics.ROCAUC(3), [0.5], [2]), DataError, r"scores \[1\] do not fit 1 targets"),
        (lambda: seen(metrics.ROCAUC(bins=5), [1.5], [1]), DataError, "Bins cover 0 to 1"),
        (lambda: seen(metrics.LogLoss(), [[1.5, 0.0]], [1]), DataError, "Allowed: 0 to 1"),
        (lambda: seen(metrics.LogLoss(), [[0.5, 0.5]], [2]), DataError, "targets go from 2 to 2"),
        (lambda: seen(metrics.Perplexity(), [[0.5, 0.5]], [2]), DataError, "tokens go from 2 to 2. Allowed: 0 to 1"),
        (lambda: seen(metrics.Perplexity(), [0.5, 0.5], [2]), DataError, r"do not fit tokens \[1\]"),
        (lambda: metrics.MSE().merge(metrics.MAE()), ConfigError, "cannot merge MAE"),
        (lambda: metrics.F1(3).merge(metrics.F1(2)), ConfigError, "cannot merge F1"),
        (lambda: metrics.F1(3).load_state_dict(metrics.F1(2).state_dict()), CheckpointError, "is not one of this"),
    ],
)  # fmt: skip
def test_wrong_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
