"""BLEU against hand counts and sacreBLEU's values; edit distance, word and character error rates."""

import itertools
import math

import numpy as np
import pytest

from treadle import metrics
from treadle.core import ConfigError, DataError

SYSTEM = ["The dog bit the man .", "It wasn't surprising .", "The man had just bitten him ."]
REFERENCES = [
    ["The dog bit the man .", "The dog had bit the man ."],
    ["It was not unexpected .", "No one was surprised ."],
    ["The man bit him first .", "The man had bitten the dog ."],
]


def test_the_example_of_the_paper():
    # Papineni et al. 2002, section 2.1: 2 of 7 words, clipped.
    bleu = metrics.BLEU(1).update(
        ["the the the the the the the"], [["the cat is on the mat", "there is a cat on the mat"]]
    )
    assert bleu.compute() == pytest.approx(2 / 7)
    # "in two of 2": a candidate that is too short is penalised by exp(1 - r / c).
    short = metrics.BLEU(2).update(["of the"], [["of the party of the people"]])
    assert short.compute() == pytest.approx(math.exp(1 - 6 / 2))


def test_a_corpus_by_hand():
    bleu = metrics.BLEU().update(SYSTEM, REFERENCES)
    # Clipped matches and totals of n = 1..4; candidates of 6, 4 and 7 tokens, nearest references of 6, 5 and 7.
    assert bleu.state["matches"].tolist() == [14, 7, 5, 3]
    assert bleu.state["totals"].tolist() == [17, 14, 11, 8]
    assert bleu.state["lengths"].tolist() == [17, 18]
    precision = (14 / 17 * 7 / 14 * 5 / 11 * 3 / 8) ** 0.25
    assert bleu.compute() == pytest.approx(precision * math.exp(1 - 18 / 17))


CORPORA = [
    (SYSTEM, REFERENCES),
    (["a b c d", "e f"], [["a b c x"], ["e g f"]]),
    (["a b", "c"], [["a b"], ["d"]]),
    (["a x c"], [["a b c", "a c"]]),
]


@pytest.mark.parametrize(
    ("smoothing", "value"),
    [("none", None), ("exp", None), ("floor", None), ("floor", 0.3), ("add-k", None), ("add-k", 0.5)],
)
@pytest.mark.parametrize("corpus", range(len(CORPORA)))
def test_sacrebleu_agrees(corpus, smoothing, value):
    sacrebleu = pytest.importorskip("sacrebleu")
    system, references = CORPORA[corpus]
    columns = [list(column) for column in itertools.zip_longest(*references)]
    expected = sacrebleu.corpus_bleu(
        system, columns, smooth_method=smoothing, smooth_value=value, tokenize="none", force=True
    )
    found = metrics.BLEU(smoothing=smoothing, value=value).update(system, references).compute()
    assert 100 * found == pytest.approx(expected.score, rel=1e-9, abs=1e-9)


def test_shards_and_forms_of_input():
    whole = metrics.BLEU().update(SYSTEM, REFERENCES).compute()
    parts = [metrics.BLEU().update([s], [r]) for s, r in zip(SYSTEM, REFERENCES, strict=True)]
    assert parts[2].merge(parts[0], parts[1]).compute() == whole
    tokens = [s.split() for s in SYSTEM]
    lists = [[r.split() for r in rs] for rs in REFERENCES]
    assert metrics.BLEU().update(tokens, lists).compute() == whole
    assert metrics.BLEU(2).update([[5, 6, 7]], [[5, 6, 7]]).compute() == 1
    assert metrics.BLEU(2).update([["a", "b"]], [["a", "b"]]).compute() == 1
    assert metrics.BLEU(2).update(["a b"], ["a b"]).compute() == 1
    assert metrics.BLEU().compute() == 0


def slow_distance(a, b) -> int:
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    table[:, 0], table[0] = range(len(a) + 1), range(len(b) + 1)
    for i, j in itertools.product(range(1, len(a) + 1), range(1, len(b) + 1)):
        table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a[i - 1] != b[j - 1]))
    return int(table[-1, -1])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("kitten", "sitting", 3),
        ("saturday", "sunday", 3),
        ("", "abc", 3),
        ("abc", "", 3),
        ("", "", 0),
        ("same", "same", 0),
    ],
)
def test_known_distances(a, b, expected):
    assert metrics.edit_distance(a, b) == expected


def test_random_distances():
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = (rng.integers(0, 3, rng.integers(0, 12)).tolist() for _ in range(2))
        assert metrics.edit_distance(a, b) == slow_distance(a, b)


def test_error_rates():
    wer = metrics.WER().update(["the cat sat", "hello"], ["the cat sat down", "hello world"])
    assert wer.compute() == pytest.approx(2 / 6)
    assert metrics.WER().update("a b c d", "x").compute() == 4
    cer = metrics.CER().update("abcd", "abxde")
    assert cer.compute() == pytest.approx(2 / 5)
    assert metrics.EditDistance().update(["kitten", "a"], ["sitting", "a"]).compute() == 1.5
    assert metrics.EditDistance().update([[1, 2, 3]], [[1, 3]]).compute() == 1
    assert math.isnan(metrics.WER().compute())
    # Not the mean of the rates: 1 of 4 and 0 of 1.
    parts = metrics.WER().update("a b c x", "a b c d"), metrics.WER().update("e", "e")
    assert parts[0].merge(parts[1]).compute() == pytest.approx(1 / 5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: metrics.BLEU(0), ConfigError, "max_n is 0"),
        (lambda: metrics.BLEU(smoothing="x"), ConfigError, r"smoothing is 'x'\. Allowed: none, exp"),
        (lambda: metrics.BLEU().update(["a"], []), DataError, "1 candidates and 0 references"),
        (lambda: metrics.BLEU().update(["a"], [[]]), DataError, "a candidate has no references"),
        (lambda: metrics.WER().update(["a"], ["a", "b"]), DataError, "1 texts and 2 references"),
    ],
)
def test_wrong_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
