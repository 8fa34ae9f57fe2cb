"""Adaptive softmax and the linear layer that ends in its loss, against PyTorch: values, gradients, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from tests.nn.functional.peer import agree, draw
from treadle import nn
from treadle.core import ConfigError, IndexRangeError, ShapeError
from treadle.nn import functional as F

X = draw(6, 8)
TARGET = np.array([0, 3, 4, 9, 10, 19])


def pair(*args: Any, **settings: Any) -> tuple[Any, Any]:
    ours, theirs = (
        nn.AdaptiveLogSoftmaxWithLoss(*args, **settings),
        torch.nn.AdaptiveLogSoftmaxWithLoss(*args, **settings),
    )
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    return ours, theirs


@pytest.mark.parametrize("head_bias", [False, True])
@pytest.mark.parametrize("cutoffs", [[4], [4, 10], [1, 2, 19]], ids=str)
def test_adaptive_softmax(cutoffs: list[int], head_bias: bool) -> None:
    ours, theirs = pair(8, 20, cutoffs, 2.0, head_bias)
    agree(
        lambda x: ours(x, td.asarray(TARGET)).output, lambda x: theirs(x, torch.tensor(TARGET)).output, X, compiled=True
    )
    agree(lambda x: ours(x, td.asarray(TARGET)).loss, lambda x: theirs(x, torch.tensor(TARGET)).loss, X)
    agree(ours.log_prob, theirs.log_prob, X, compiled=True)
    np.testing.assert_array_equal(ours.predict(td.asarray(X)).numpy(), theirs.predict(torch.tensor(X)).numpy())
    agree(lambda x: ours(x, td.asarray(5)).output, lambda x: theirs(x, torch.tensor(5)).output, X[0])
    probabilities = np.exp(ours.log_prob(td.asarray(X)).numpy())
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    ours.reset_parameters()


def test_parameters_get_pytorchs_gradients() -> None:
    ours, theirs = pair(8, 20, [4, 10], 2.0)
    td.compile(lambda x, t: ours(x, t).loss.backward())(X, TARGET)
    theirs(torch.tensor(X), torch.tensor(TARGET)).loss.backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, []),
            ConfigError,
            r"cutoffs are \[\]\. Give whole numbers that rise",
        ),
        (lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 4]), ConfigError, r"cutoffs are \[4, 4\]"),
        (lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 20]), ConfigError, "from 1 to 19"),
        (lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, [2, 4]), ConfigError, "cluster 1 would have 0 features"),
        (lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4])(X, TARGET[:2]), ShapeError, "do not fit. They must be"),
        (
            lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4])(X, TARGET + 1),
            IndexRangeError,
            "target 20 is out of range",
        ),
        (lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4])(X, TARGET - 100), IndexRangeError, "target -100 is out"),
    ],
)
def test_errors(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("wrong", [-100, -1, 20])
def test_classes_out_of_range_in_a_compiled_step(wrong: int) -> None:
    layer = nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4])
    run = td.compile(lambda x, t: layer(x, t).loss)
    run(X, TARGET)
    with pytest.raises(IndexRangeError, match="out of range"):
        run(X, np.where(TARGET == 3, wrong, TARGET))


WEIGHT = np.array([0.5, 1.0, 2.0, 0.1, 3.0], np.float32)
CLASSES = np.array([1, 0, 4, 2, 2, 1])


@pytest.mark.parametrize(
    "settings",
    [{}, {"reduction": "sum"}, {"reduction": "none"}, {"ignore_index": 2}, {"label_smoothing": 0.2}],
    ids=str,
)
@pytest.mark.parametrize("weighted", [False, True])
def test_linear_cross_entropy(settings: dict[str, Any], weighted: bool) -> None:
    w, b = draw(5, 8, seed=1), draw(5, seed=2)
    agree(
        lambda x, w, b: F.linear_cross_entropy(
            x, w, td.asarray(CLASSES), linear_bias=b, weight=WEIGHT if weighted else None, **settings
        ),
        lambda x, w, b: torch.nn.functional.linear_cross_entropy(
            x, w, torch.tensor(CLASSES), linear_bias=b, weight=torch.tensor(WEIGHT) if weighted else None, **settings
        ),
        X,
        w,
        b,
        compiled=True,
    )


def test_linear_cross_entropy_of_other_shapes() -> None:
    w = draw(5, 3, 2, 8, seed=1)
    classes = np.random.default_rng(3).integers(0, 5, (6, 3, 2))
    ours, theirs = F.linear_cross_entropy, torch.nn.functional.linear_cross_entropy
    agree(lambda x, w: ours(x, w, td.asarray(classes)), lambda x, w: theirs(x, w, torch.tensor(classes)), X, w)
    share = np.abs(draw(6, 5, 3, 2, seed=4))
    agree(ours, theirs, X, w, fixed=(share,), rtol=1e-4)
    one = draw(5, 8, seed=5)
    agree(lambda x, w: ours(x, w, td.asarray(3)), lambda x, w: theirs(x, w, torch.tensor(3)), X[0], one)


def test_the_layer() -> None:
    settings: dict[str, Any] = {"out_features": (2,), "bias": True, "reduction": "sum"}
    ours, theirs = nn.LinearCrossEntropyLoss(8, 5, **settings), torch.nn.LinearCrossEntropyLoss(8, 5, **settings)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    classes = np.random.default_rng(3).integers(0, 5, (6, 2))
    agree(lambda x: ours(x, td.asarray(classes)), lambda x: theirs(x, torch.tensor(classes)), X, compiled=True)
    assert "num_classes=5, out_features=(2,)" in repr(ours)
    weighted = nn.LinearCrossEntropyLoss(8, 5, weight=WEIGHT)
    assert list(weighted.state_dict()) == list(
        torch.nn.LinearCrossEntropyLoss(8, 5, weight=torch.tensor(WEIGHT)).state_dict()
    )


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda f: f(X, draw(5, 7), CLASSES), ShapeError, "does not fit linear_weight"),
        (lambda f: f(X[0], draw(5, 2, 8), CLASSES), ShapeError, "does not fit linear_weight"),
        (lambda f: f(X, draw(5, 8), CLASSES, linear_bias=draw(4)), ShapeError, r"linear_bias .* must have shape \[5\]"),
        (lambda f: f(X, draw(5, 8), draw(6, 5), ignore_index=1), ConfigError, "targets are probabilities"),
        (lambda f: f(X, draw(5, 8), CLASSES, options=1), ConfigError, "Leave them out"),
        (lambda f: nn.LinearCrossEntropyLoss(8, 5, weight=WEIGHT[:2]), ShapeError, "must have shape"),
        (lambda f: nn.LinearCrossEntropyLoss(8, 5, label_smoothing=2), ConfigError, "label_smoothing is 2"),
        (lambda f: nn.LinearCrossEntropyLoss(8, 5, reduction="x"), ConfigError, "reduction is 'x'"),
    ],
)
def test_errors_of_linear_cross_entropy(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call(F.linear_cross_entropy)
