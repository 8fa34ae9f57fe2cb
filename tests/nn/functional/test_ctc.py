"""CTC loss against PyTorch's and against the sum over all alignments; lengths, blanks, sequences that do not fit."""

import itertools
import math

import numpy as np
import pytest

import treadle as td
from tests.nn.functional.peer import agree, draw
from treadle import nn
from treadle.core import ConfigError, DTypeError, ShapeError
from treadle.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional
T, N, C, S = 9, 3, 5, 3
IN, OUT = (9, 7, 5), (3, 1, 2)


def labels(blank: int = 0) -> np.ndarray:
    """Return targets with repeats, which need a blank between them."""
    classes = [c for c in range(C) if c != blank]
    return np.array([classes[:3], [classes[1]] * 3, [classes[2], classes[2], classes[0]]])


def scores(*shape: int, dtype=np.float32) -> np.ndarray:
    return torch.log_softmax(torch.tensor(draw(*shape, dtype=dtype) * 2), -1).numpy()


def probability(log_probs: np.ndarray, wanted: list[int], blank: int = 0) -> float:
    """Return the probability of a label sequence by going through all paths."""
    total = 0.0
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        if [k for k, _ in itertools.groupby(path) if k != blank] == wanted:
            total += math.exp(sum(float(log_probs[t, k]) for t, k in enumerate(path)))
    return total


@pytest.mark.parametrize("wanted", [[], [1], [1, 1], [2, 1], [1, 2, 1]], ids=str)
def test_the_sum_over_all_alignments(wanted):
    log_probs = scores(5, 3, dtype=np.float64)
    found = F.ctc_loss(log_probs, np.array(wanted, np.int64), 5, len(wanted), reduction="sum")
    assert math.exp(-float(found)) == pytest.approx(probability(log_probs, wanted), rel=1e-9)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("blank", [0, 2, 4])
def test_pytorch_agrees(blank, reduction):
    y, t = labels(blank), torch.tensor(labels(blank))
    agree(
        lambda x: F.ctc_loss(x, y, IN, OUT, blank, reduction),
        lambda x: TF.ctc_loss(x, t, IN, OUT, blank, reduction),
        scores(T, N, C), rtol=1e-4,
    )  # fmt: skip
    agree(
        lambda x: F.ctc_loss(F.log_softmax(x, -1), y, IN, OUT, blank, reduction),
        lambda x: TF.ctc_loss(TF.log_softmax(x, -1), t, IN, OUT, blank, reduction),
        draw(T, N, C), rtol=1e-4,
    )  # fmt: skip


def test_targets_one_after_the_other():
    y = np.concatenate([row[:n] for row, n in zip(labels(), OUT, strict=True)])
    agree(
        lambda x: F.ctc_loss(x, y, IN, OUT),
        lambda x: TF.ctc_loss(x, torch.tensor(y), IN, OUT),
        scores(T, N, C),
        rtol=1e-4,
    )


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_one_sequence(reduction):
    y = np.array([1, 1, 3])
    agree(
        lambda x: F.ctc_loss(x, y, td.asarray(8), td.asarray(3), reduction=reduction),
        lambda x: TF.ctc_loss(x, torch.tensor(y), torch.tensor(8), torch.tensor(3), reduction=reduction),
        scores(T, C), rtol=1e-4,
    )  # fmt: skip


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_sequences_that_do_not_fit(reduction):
    lengths, out = (2, 7, 1), (3, 1, 0)
    x, y = scores(T, N, C), labels()
    found = np.asarray(F.ctc_loss(x, y, lengths, out, reduction=reduction))
    assert np.isinf(found.reshape(-1)[0])
    agree(
        lambda x: F.ctc_loss(x, y, lengths, out, reduction=reduction, zero_infinity=True),
        lambda x: TF.ctc_loss(x, torch.tensor(y), lengths, out, reduction=reduction, zero_infinity=True),
        x, rtol=1e-4,
    )  # fmt: skip


def test_padding_is_never_read():
    y = labels()
    y[1, 1:] = -7
    y[2, 2:] = 99
    found = np.asarray(F.ctc_loss(scores(T, N, C), y, IN, OUT, reduction="none"))
    np.testing.assert_array_equal(found, np.asarray(F.ctc_loss(scores(T, N, C), labels(), IN, OUT, reduction="none")))


def test_certain_and_impossible_classes():
    logits = np.where(np.eye(4, dtype=bool)[[0, 1, 0, 2, 2]], 1e4, -1e4).astype(np.float32)[:, None]
    leaf = td.asarray(logits).requires_grad_()
    loss = F.ctc_loss(F.log_softmax(leaf, -1), np.array([[1, 2]]), [5], [2])
    loss.backward()
    assert float(loss.detach()) == 0
    np.testing.assert_array_equal(np.asarray(leaf.grad), 0)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_dtypes(dtype):
    x, y = scores(T, N, C), labels()
    found = F.ctc_loss(td.asarray(x).astype(dtype), y, IN, OUT)
    assert found.dtype.name == dtype
    expected = TF.ctc_loss(torch.tensor(x).double(), torch.tensor(y), IN, OUT)
    assert float(found) == pytest.approx(float(expected), rel=2e-3 if dtype == "float16" else 1e-6)


def test_lengths_are_values_of_a_compiled_function():
    x, y = scores(T, N, C), labels()
    loss = td.compile(lambda x, y, a, b: F.ctc_loss(x, y, a, b, reduction="none"))
    for lengths in (IN, (9, 9, 9)):
        found = np.asarray(loss(x, y, np.array(lengths), np.array(OUT)))
        expected = TF.ctc_loss(torch.tensor(x), torch.tensor(y), lengths, OUT, reduction="none")
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)
    assert loss.num_compiles == 1


def test_the_size_of_the_program_does_not_grow_with_time():
    def kernels(steps: int) -> int:
        loss = td.compile(td.value_and_grad(lambda x: F.ctc_loss(F.log_softmax(x, -1), labels(), (5, 4, 3), OUT)))
        return len(loss.plan(draw(steps, N, C)).steps)

    assert kernels(10) == kernels(200)


def test_the_layer():
    y = labels(2)
    agree(
        nn.CTCLoss(2, "sum", True),
        torch.nn.CTCLoss(2, "sum", True),
        scores(T, N, C),
        fixed=(y, np.array(IN), np.array(OUT)),
    )


x3 = np.zeros((4, 2, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.ctc_loss(x3[0, 0], [1], 1, 1), ShapeError, r"log_probs f32\[3\] must be"),
        (lambda: F.ctc_loss(x3, np.ones((2, 1), int), [4, 4], [1, 1], blank=3), ConfigError, "blank is 3. Allowed"),
        (lambda: F.ctc_loss(x3, np.ones((2, 1), int), [5, 4], [1, 1]), ShapeError, "input_lengths go from 4 to 5"),
        (lambda: F.ctc_loss(x3, np.ones((2, 1), int), [4], [1, 1]), ShapeError, "do not fit 2 sequences"),
        (lambda: F.ctc_loss(x3, np.ones((2, 1), int), [4, 4], [2, 1]), ShapeError, "target_lengths go up to 2"),
        (lambda: F.ctc_loss(x3, np.ones((3, 1), int), [4, 4], [1, 1]), ShapeError, r"They must be \[2, S\]"),
        (lambda: F.ctc_loss(x3, np.ones(1, int), [4, 4], [1, 1]), ShapeError, "add up to 2, and there are 1 targets"),
        (lambda: F.ctc_loss(x3, np.ones((2, 1)), [4, 4], [1, 1]), DTypeError, "targets have dtype float64"),
        (lambda: F.ctc_loss(x3, np.ones((2, 1), int), [4.0, 4.0], [1, 1]), DTypeError, "input_lengths have dtype"),
    ],
)
def test_wrong_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
