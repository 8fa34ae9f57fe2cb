"""Kinds of targets: the loss against PyTorch's, metrics against scikit-learn's, and every wrong pairing refused."""

import math

import numpy as np
import pytest
import sklearn.metrics as sk
import torch

import treadle as td
from treadle import nn, optim
from treadle.core import ConfigError, DataError, DTypeError, IndexRangeError, ShapeError
from treadle.train import Binary, Count, Multiclass, Multilabel, Ordinal, Regression, TaskMetrics, task_of

T = torch.nn.functional
N = 40
rng = np.random.default_rng(0)
FEATURES = rng.standard_normal((N, 6)).astype(np.float32)
CLASSES = rng.integers(0, 4, N)
CLASSES[:4] = range(4)
BITS = rng.integers(0, 2, N)
LABELS = rng.integers(0, 2, (N, 3))
NUMBERS = rng.standard_normal(N).astype(np.float32)
VECTORS = rng.standard_normal((N, 2)).astype(np.float32)
COUNTS = rng.poisson(2.0, N)


def ordinal_loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    above = torch.sigmoid(x.double())
    one = torch.ones_like(above[:, :1])
    return T.nll_loss(torch.log(torch.cat([one, above], 1) - torch.cat([above, 0 * one], 1)), y).float()


# The kind, its task, targets, and PyTorch's loss of outputs [n, outputs].
CASES = {
    "binary": (Binary(), BITS, lambda x, y: T.binary_cross_entropy_with_logits(x[:, 0], y.float())),
    "multiclass": (Multiclass(4), CLASSES, T.cross_entropy),
    "multilabel": (Multilabel(3), LABELS, lambda x, y: T.binary_cross_entropy_with_logits(x, y.float())),
    "regression": (Regression(), NUMBERS, lambda x, y: T.mse_loss(x[:, 0], y)),
    "count": (Count(), COUNTS, lambda x, y: T.poisson_nll_loss(x[:, 0], y.float())),
    "ordinal": (Ordinal(4), CLASSES, ordinal_loss),
    "regression of vectors": (Regression(2), VECTORS, T.mse_loss),
    "counts": (Count(3), LABELS, lambda x, y: T.poisson_nll_loss(x, y.float())),
}


def output_of(task):
    return task.head(6)(td.asarray(FEATURES)).detach()


@pytest.mark.parametrize("name", CASES)
def test_the_loss_is_pytorchs(name):
    task, y, theirs = CASES[name]
    x = output_of(task)
    assert x.shape == (N, task.outputs)
    wanted = float(theirs(torch.tensor(np.asarray(x)), torch.tensor(y)))
    assert float(task.loss(x, y)) == pytest.approx(wanted, rel=1e-5)
    assert float(td.compile(task.loss)(x, y)) == pytest.approx(wanted, rel=1e-5)
    each = task.loss(x, y, "none")
    assert each.shape == y.shape
    assert float(each.mean()) == pytest.approx(wanted, rel=1e-5)
    assert float(task.loss(x, y, "sum")) == pytest.approx(wanted * y.size, rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_examples_may_have_any_number_of_axes(name):
    task, y, _ = CASES[name]
    x = output_of(task)
    one, two = (task.loss(x, y, "none"), task.loss(x.reshape(8, 5, -1), y.reshape(8, 5, *y.shape[1:]), "none"))
    np.testing.assert_array_equal(one, np.asarray(two).reshape(y.shape))
    assert task.predict(x.reshape(8, 5, -1)).shape == two.shape
    assert task.loss(x[0], y[0], "none").shape == y[0].shape
    none = task.loss(x[:0], y[:0], "sum")
    assert float(none) == 0


@pytest.mark.parametrize("name", CASES)
def test_a_step_learns(name):
    task, y, _ = CASES[name]
    model = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), task.head(64))
    opt = optim.Adam(model.parameters(), lr=1e-2)

    @td.compile
    def step(x, y):
        loss = task.loss(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    losses = [float(step(FEATURES, y)) for _ in range(30)]
    assert losses[-1] < losses[0]
    assert all(map(math.isfinite, losses))


@pytest.mark.parametrize("name", CASES)
def test_the_task_is_found_from_targets(name):
    task, y, _ = CASES[name]
    kind = {"counts": "count"}.get(name, name.split()[0])
    assert repr(task_of(kind, y)) == repr(task_of(kind, y.tolist())) == repr(task)


def test_what_is_predicted():
    x = td.asarray([[2.0, 1.0, -1.0], [-1.0, -2.0, -3.0], [3.0, 2.0, 1.0]])
    assert Ordinal(4).predict(x).tolist() == [2, 0, 3]
    assert Multiclass(3).predict(x).tolist() == [0, 0, 0]
    assert Multilabel(3).predict(x).tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]
    assert Binary().predict(x[:, :1]).tolist() == [1, 0, 1]
    assert Regression(3).predict(x).tolist() == x.tolist()
    np.testing.assert_allclose(Count().predict(x[:, :1]), np.exp([2.0, -1.0, 3.0]), rtol=1e-6)
    np.testing.assert_allclose(Ordinal(4).probabilities(x).sum(axis=-1), 1.0, rtol=1e-6)


def test_the_median_of_classes_is_the_class_where_half_the_probability_is_reached():
    task = Ordinal(4)
    x = output_of(task)
    reached = np.cumsum(np.asarray(task.probabilities(x)), axis=-1) >= 0.5
    np.testing.assert_array_equal(task.predict(x), reached.argmax(axis=-1))


METRICS = {
    "binary": {
        "accuracy": lambda y, p, q: sk.accuracy_score(y, p),
        "log loss": lambda y, p, q: sk.log_loss(y, q),
        "ROC AUC": lambda y, p, q: sk.roc_auc_score(y, q),
    },
    "multiclass": {
        "accuracy": lambda y, p, q: sk.accuracy_score(y, p),
        "log loss": lambda y, p, q: sk.log_loss(y, q / q.sum(axis=1, keepdims=True)),
    },
    "multilabel": {
        "accuracy": lambda y, p, q: np.mean(y == p),
        "F1": lambda y, p, q: sk.f1_score(y, p, average="macro"),
    },
    "regression": {
        "RMSE": lambda y, p, q: sk.root_mean_squared_error(y, p),
        "MAE": lambda y, p, q: sk.mean_absolute_error(y, p),
        "R2": lambda y, p, q: sk.r2_score(y, p),
    },
    "count": {
        "deviance": lambda y, p, q: sk.mean_poisson_deviance(y, p),
        "MAE": lambda y, p, q: sk.mean_absolute_error(y, p),
    },
    "ordinal": {
        "accuracy": lambda y, p, q: sk.accuracy_score(y, p),
        "log loss": lambda y, p, q: sk.log_loss(y, q / q.sum(axis=1, keepdims=True)),
        "MAE": lambda y, p, q: sk.mean_absolute_error(y, p),
    },
}


@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_scikit_learns(name):
    task, y, _ = CASES[name]
    x = output_of(task)
    whole = task.metrics().update(x, y)
    p = np.asarray(task.predict(x)).astype(np.float64)
    q = np.asarray(task.probabilities(x)).astype(np.float64) if hasattr(task, "probabilities") else None
    found = whole.compute()
    assert found == pytest.approx({metric: f(y, p, q) for metric, f in METRICS[name].items()}, rel=1e-6)
    parts = [task.metrics().update(x[a:b], y[a:b]) for a, b in ((0, 7), (7, 30), (30, N))]
    assert parts[0].merge(*parts[1:]).compute() == pytest.approx(found, rel=1e-9)
    grid = task.metrics().update(x.reshape(8, 5, -1), y.reshape(8, 5, *y.shape[1:]))
    assert grid.compute() == pytest.approx(found, rel=1e-12)
    assert whole.reset().update(x, y).compute() == found


def outputs(*shape):
    return td.zeros(shape)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        # targets of another kind
        (lambda: Multiclass(3).check(NUMBERS), DTypeError, "Multiclass: targets have dtype float32. They must be int"),
        (lambda: Ordinal(3).check(BITS > 0), DTypeError, "Ordinal: targets have dtype bool. They must be integers;"),
        (lambda: Regression().check(BITS > 0), DTypeError, "They must be integers or floats; convert them, or use"),
        (lambda: Count().check(BITS > 0), DTypeError, "Count: targets have dtype bool"),
        (lambda: Binary().check(CLASSES), DataError, r"Binary\(\): targets contain [23]. Allowed: 0 and 1, or bools"),
        (lambda: Binary().check(NUMBERS), DataError, r"targets contain .*\. Allowed: 0 and 1"),
        (lambda: Multilabel(2).check(VECTORS), DataError, r"Multilabel\(size=2\): targets contain"),
        (lambda: Count().check(np.array([0, 3, -1])), DataError, "contain -1. Counts are whole numbers from 0 on"),
        (lambda: Count().check(np.array([0.5])), DataError, "contain 0.5. Counts are whole numbers"),
        (lambda: Count().check(np.array([math.inf])), DataError, "contain inf"),
        (lambda: Regression().check(np.array([1.0, math.nan])), DataError, "targets contain nan, which is not finite"),
        # class numbers out of range
        (lambda: Multiclass(3).check(CLASSES), IndexRangeError, r"Multiclass\(num_classes=3\): targets contain 3"),
        (lambda: Ordinal(3).check(CLASSES), IndexRangeError, "Allowed: 0 to 2; number the classes from 0, or raise"),
        (lambda: Multiclass(3).check(np.array([-100])), IndexRangeError, "targets contain -100"),
        # outputs of another head
        (lambda: Multiclass(4).loss(outputs(N, 1), CLASSES), ShapeError, r"floats \[\.\.\., 4\], as the layer that"),
        (lambda: Ordinal(4).loss(outputs(N, 4), CLASSES), ShapeError, r"the output f32\[40,4\] does not fit"),
        (lambda: Binary().loss(outputs(N), BITS), ShapeError, r"floats \[\.\.\., 1\]"),
        (lambda: Binary().loss(outputs(N, 2), BITS), ShapeError, r"the output f32\[40,2\]"),
        (lambda: Regression().predict(outputs()), ShapeError, "does not fit"),
        (lambda: Multiclass(2).predict(td.ones((3, 2), dtype="int64")), ShapeError, r"the output i64\[3,2\]"),
        # shapes that do not fit each other: broadcasting would make a loss of all pairs of them
        (lambda: Regression().loss(outputs(3, 1), td.zeros((3, 1))), ShapeError, r"They must be \[3\]; reshape them"),
        (lambda: Regression(1).loss(outputs(3, 1), td.zeros(3)), ShapeError, "do not have 1 along their last axis"),
        (lambda: Multiclass(2).loss(outputs(3, 2), BITS), ShapeError, r"targets \[40\] do not fit the output \[3, 2\]"),
        (lambda: Multiclass(2).loss(outputs(3, 2), td.eye(3, dtype="int64")), ShapeError, r"They must be \[3\]"),
        (lambda: Multilabel(3).loss(outputs(N, 3), LABELS[:, :2]), ShapeError, r"Give \[\.\.\., 3\]"),
        (lambda: Count().metrics().update(outputs(3, 1), [1.0]), DTypeError, "cannot take a list"),
        (lambda: Count().metrics().update(outputs(3, 1), td.ones(2)), ShapeError, r"targets \[2\] do not fit"),
        # settings
        (lambda: Multiclass(1), ConfigError, "Multiclass: num_classes is 1. It must be at least 2"),
        (lambda: Multilabel(1), ConfigError, "size is 1. It must be at least 2; for one label use Binary"),
        (lambda: Regression(0), ConfigError, "Regression: size is 0. It must be at least 1, or None"),
        (lambda: task_of("classes", CLASSES), ConfigError, "kind is 'classes'. Allowed: binary, multiclass"),
        (lambda: task_of("multiclass", NUMBERS), DTypeError, "Multiclass: targets have dtype float32"),
        (lambda: task_of("multilabel", BITS), ShapeError, r"targets \[40\] are not \[n, labels\]. For one label"),
        (lambda: Multiclass(2).loss(outputs(3, 2), BITS[:3], "men"), ConfigError, "reduction is 'men'"),
    ],
)  # fmt: skip
def test_wrong_pairings_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_shapes_dtypes_and_class_numbers_are_refused_in_a_compiled_step_too():
    x = np.zeros((3, 4), np.float32)
    with pytest.raises(DTypeError, match="Multiclass: targets have dtype float32"):
        td.compile(Multiclass(4).loss)(x, np.zeros(3, np.float32))
    with pytest.raises(ShapeError, match=r"targets \[3, 1\] do not fit the output \[3, 4\]"):
        td.compile(Multiclass(4).loss)(x, np.zeros((3, 1), np.int64))
    for task in (Multiclass(4), Ordinal(5)):
        for wrong in (-1, -100, 5):
            with pytest.raises(IndexRangeError, match=f"targets contain {wrong}. Allowed: 0 to"):
                td.compile(task.loss)(x, np.array([0, wrong, 1]))


VALUES = [
    (Binary(), np.array([0.0, 0.5, 1.0], np.float32), r"Binary\(\): targets contain 0.5. Allowed: 0 and 1"),
    (Multilabel(2), np.array([[0, 1], [1, 2]]), r"Multilabel\(size=2\): targets contain 2"),
    (Regression(), np.array([1.0, np.nan], np.float32), "targets contain nan, which is not finite"),
    (Count(), np.array([1, -2, 3]), "targets contain -2. Counts"),
    (Count(), np.array([0.3], np.float32), "targets contain 0.3. Counts"),
]


@pytest.mark.parametrize(("task", "target", "message"), VALUES, ids=[str(v[0]) for v in VALUES])
def test_values_are_refused_before_a_compiled_step_changes_anything(task, target, message):
    scale = nn.Parameter(td.ones(()))
    opt = optim.SGD([scale], lr=0.1)
    x = np.ones((len(target), task.outputs), np.float32)

    @td.compile
    def step(x, y):
        opt.zero_grad()
        loss = task.loss(scale * x, y)
        loss.backward()
        opt.step()
        return loss

    good = np.zeros_like(target)
    step(x, good)
    before = float(scale)
    with pytest.raises(DataError, match=message):
        step(x, target)
    assert float(scale) == before
    step(x, good)
    assert float(scale) != before
    assert step.num_compiles == 1


def test_metrics_know_their_names():
    for kind, names in METRICS.items():
        task = CASES[kind][0]
        metrics = task.metrics()
        assert isinstance(metrics, TaskMetrics)
        assert list(metrics.compute()) == list(names)
