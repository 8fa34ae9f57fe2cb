"""Loss layers against PyTorch's: the same constructor, positionally, too, gives the same loss; weights are buffers."""

import numpy as np
import pytest

import treadle as td
from tests.nn.functional.peer import agree, draw
from treadle import nn
from treadle.core import ConfigError

torch = pytest.importorskip("torch")

CLASSES = np.array([1, 0, 4, 2])
SIGNS = np.array([1.0, -1.0, -1.0, 1.0], np.float32)
WEIGHT = np.array([0.5, 1.0, 2.0, 0.1, 3.0], np.float32)
BITS = (draw(4, 5, seed=3) > 0).astype(np.float32)
X, Y, Z = (draw(4, 5, seed=i) for i in range(3))
P = (1 / (1 + np.exp(-X))).astype(np.float32)

# The class, its arguments, the inputs with gradients, and those without.
CASES = [
    ("CrossEntropyLoss", (WEIGHT, None, 0, None, "sum", 0.1), (X,), (CLASSES,)),
    ("CrossEntropyLoss", (), (X,), (CLASSES,)),
    ("NLLLoss", (WEIGHT, None, 4), (X,), (CLASSES,)),
    ("MultiMarginLoss", (2, 0.5, WEIGHT), (X,), (CLASSES,)),
    ("MultiLabelMarginLoss", (), (X,), (np.array([[1, 2, -1, 0, 0]] * 4),)),
    ("BCELoss", (WEIGHT,), (P,), (BITS,)),
    ("BCEWithLogitsLoss", (WEIGHT, None, None, "none", WEIGHT), (X,), (BITS,)),
    ("SoftMarginLoss", (), (X,), (BITS * 2 - 1,)),
    ("MultiLabelSoftMarginLoss", (WEIGHT,), (X,), (BITS,)),
    ("MSELoss", (None, None, "sum"), (X, Y), ()),
    ("L1Loss", (), (X, Y), ()),
    ("HuberLoss", ("sum", 0.3), (X, Y), ()),
    ("SmoothL1Loss", (None, None, "none", 0.3), (X, Y), ()),
    ("KLDivLoss", (None, None, "batchmean", True), (X, Y), ()),
    ("PoissonNLLLoss", (False, True), (P,), (BITS * 3,)),
    ("GaussianNLLLoss", (), (X, Y, P), ()),
    ("HingeEmbeddingLoss", (0.5,), (X,), (BITS * 2 - 1,)),
    ("MarginRankingLoss", (0.5,), (X[:, 0].copy(), Y[:, 0].copy()), (SIGNS,)),
    ("CosineEmbeddingLoss", (0.1,), (X, Y), (SIGNS,)),
    ("TripletMarginLoss", (0.9, 1.0, 1e-6, True), (X, Y, Z), ()),
    ("TripletMarginWithDistanceLoss", (), (X, Y, Z), ()),
    ("PairwiseDistance", (3.0, 1e-6, True), (X, Y), ()),
    ("CosineSimilarity", (0,), (X, Y), ()),
]


@pytest.mark.parametrize(("name", "args", "arrays", "fixed"), CASES, ids=[c[0] for c in CASES])
def test_layers(name, args, arrays, fixed):
    ours = getattr(nn, name)(*args)
    theirs = getattr(torch.nn, name)(*[torch.tensor(a) if isinstance(a, np.ndarray) else a for a in args])
    agree(ours, theirs, *arrays, fixed=fixed, rtol=3e-5)
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_the_older_arguments():
    found = nn.MSELoss(False)(td.asarray(X), td.asarray(Y))
    assert float(found) == pytest.approx(float(((X - Y) ** 2).sum()), rel=1e-5)
    assert nn.L1Loss(reduce=False)(td.asarray(X), td.asarray(Y)).shape == (4, 5)


def test_settings_are_shown():
    assert repr(nn.HuberLoss(delta=2.0)) == "HuberLoss(delta=2.0, reduction='mean')"


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match=r"MSELoss: reduction is 'batchmean'\. Allowed: none, mean, sum"):
        nn.MSELoss(reduction="batchmean")
    with pytest.raises(ConfigError, match="TripletMarginLoss: margin is 0"):
        nn.TripletMarginLoss(0)
