"""Pruned parameters against PyTorch's: which elements go, one pruning on another, training, and the way back."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import prune as peer

import treadle as td
from tests.nn.functional.peer import draw
from treadle import nn, optim
from treadle.core import ConfigError, ShapeError, TraceError
from treadle.nn.utils import prune

X = draw(5, 4)


def pair() -> tuple[nn.Linear, torch.nn.Linear]:
    ours, theirs = nn.Linear(4, 6), torch.nn.Linear(4, 6)
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    return ours, theirs


def tensor(x: Any) -> Any:
    return torch.tensor(x) if isinstance(x, np.ndarray) else x


SCORES = draw(6, 4, seed=3)
MASK = (draw(6, 4, seed=4) > 0).astype(np.float32)
# What is done one after the other.
CASES: list[list[tuple[str, tuple[Any, ...]]]] = [
    [("identity", ())],
    [("l1_unstructured", (0.3,))],
    [("l1_unstructured", (5,))],
    [("l1_unstructured", (0,))],
    [("l1_unstructured", (24,))],
    [("l1_unstructured", (0.3, SCORES))],
    [("ln_structured", (2, 2, 0))],
    [("ln_structured", (0.5, 1, 1))],
    [("ln_structured", (1, float("inf"), -1))],
    [("ln_structured", (3, 1, 0, SCORES))],
    [("custom_from_mask", (MASK,))],
    [("l1_unstructured", (0.3,)), ("l1_unstructured", (0.5,))],
    [("ln_structured", (2, 2, 0)), ("ln_structured", (2, 2, 0)), ("ln_structured", (1, 1, 1))],
    [("ln_structured", (2, 2, 0)), ("l1_unstructured", (0.5,)), ("custom_from_mask", (MASK,))],
    [("custom_from_mask", (MASK,)), ("ln_structured", (1, 2, 0)), ("identity", ())],
]


@pytest.mark.parametrize("steps", CASES, ids=lambda steps: "-".join(name for name, _ in steps))
def test_the_same_elements_go(steps: list[tuple[str, tuple[Any, ...]]]) -> None:
    ours, theirs = pair()
    for name, args in steps:
        assert getattr(prune, name)(ours, "weight", *args) is ours
        getattr(peer, name)(theirs, "weight", *map(tensor, args))
        np.testing.assert_array_equal(ours.weight_mask.numpy(), theirs.weight_mask.numpy())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert prune.is_pruned(ours)
    np.testing.assert_array_equal(ours.weight.numpy(), theirs.weight.detach().numpy())
    want = theirs(torch.tensor(X))
    want.sum().backward()
    found = ours(td.asarray(X))
    found.sum().backward()
    np.testing.assert_allclose(found.numpy(), want.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.weight_orig.grad.numpy(), theirs.weight_orig.grad.numpy(), rtol=1e-5)
    held = ours.weight_orig
    prune.remove(ours, "weight")
    peer.remove(theirs, "weight")
    assert ours.weight is held
    assert not prune.is_pruned(ours)
    assert sorted(ours.state_dict()) == sorted(theirs.state_dict())
    np.testing.assert_array_equal(ours.weight.numpy(), theirs.weight.detach().numpy())


def test_random_elements_and_slices() -> None:
    ours, _ = pair()
    prune.random_unstructured(ours, "weight", 0.25)
    assert int((ours.weight_mask == 0).sum()) == 6
    prune.random_unstructured(ours, "weight", 0.5)
    assert int((ours.weight_mask == 0).sum()) == 6 + 9
    other, _ = pair()
    prune.random_structured(other, "weight", 2, 0)
    assert sorted(other.weight_mask.numpy().sum(axis=1)) == [0, 0, 4, 4, 4, 4]
    prune.random_structured(other, "weight", 2, 0)
    assert sorted(other.weight_mask.numpy().sum(axis=1)) == [0, 0, 0, 0, 4, 4]


@pytest.mark.parametrize("amount", [0.4, 7])
def test_of_several_layers_together(amount: float) -> None:
    ours, theirs = zip(*[pair() for _ in range(2)], strict=True)
    prune.l1_unstructured(ours[0], "weight", 3)
    peer.l1_unstructured(theirs[0], "weight", 3)
    prune.global_unstructured([(m, "weight") for m in ours], prune.L1Unstructured, amount=amount)
    peer.global_unstructured([(m, "weight") for m in theirs], peer.L1Unstructured, amount=amount)
    for m, n in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(m.weight_mask.numpy(), n.weight_mask.numpy())
    model = nn.Sequential(*ours)
    assert prune.is_pruned(model)


def test_training_leaves_pruned_elements_at_zero() -> None:
    layer, _ = pair()
    prune.l1_unstructured(layer, "weight", 0.5)
    opt = optim.SGD(layer.parameters(), lr=0.1)

    @td.compile
    def step(x: td.Tensor) -> None:
        opt.zero_grad()
        layer(x).square().sum().backward()
        opt.step()

    before = layer.weight.numpy()
    for _ in range(3):
        step(X)
    after = layer.weight.numpy()
    np.testing.assert_array_equal(after == 0, before == 0)
    assert (after != before).any()
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(twin.weight.numpy(), after)
        assert prune.is_pruned(twin)


def test_a_method_of_ones_own() -> None:
    class EverySecond(prune.BasePruningMethod):
        PRUNING_TYPE = "unstructured"

        def compute_mask(self, t: td.Tensor, default_mask: td.Tensor) -> td.Tensor:
            return default_mask.at[::2].set(0.0)

    layer, _ = pair()
    method = EverySecond.apply(layer, "bias")
    assert isinstance(method, EverySecond)
    np.testing.assert_array_equal(layer.bias_mask.numpy(), [0, 1, 0, 1, 0, 1])
    EverySecond.apply(layer, "bias")
    np.testing.assert_array_equal(layer.bias_mask.numpy(), [0, 0, 0, 1, 0, 0])
    found = prune.L1Unstructured(2).prune(np.array([3.0, -1.0, 2.0]))
    np.testing.assert_array_equal(found.numpy(), [3, 0, 0])
    both = prune.PruningContainer(prune.Identity())
    both.add_pruning_method(prune.L1Unstructured(1))
    assert len(both) == 2
    assert isinstance(both[0], prune.Identity)
    mask = both.compute_mask(td.asarray([3.0, 1.0, 2.0]), td.asarray([1.0, 0.0, 1.0]))
    np.testing.assert_array_equal(mask.numpy(), [1, 0, 0])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda m: prune.l1_unstructured(m, "x", 1), ConfigError, "Linear has no parameter or buffer 'x'"),
        (lambda m: prune.l1_unstructured(m, "weight", 1.5), ConfigError, r"amount is 1.5. Allowed: a whole number"),
        (lambda m: prune.l1_unstructured(m, "weight", -1), ConfigError, "amount is -1"),
        (lambda m: prune.l1_unstructured(m, "weight", 25), ConfigError, "amount is 25, and only 24 are left"),
        (lambda m: prune.l1_unstructured(m, "weight", 2, X), ShapeError, r"must have the shape \[6, 4\]"),
        (lambda m: prune.ln_structured(m, "bias", 1, 2, 0), ShapeError, "has no slices to prune"),
        (lambda m: prune.ln_structured(m, "weight", 1, 2, 2), ShapeError, "prune: axis 2"),
        (lambda m: prune.ln_structured(m, "weight", 1, "nuc", 0), ConfigError, "n is 'nuc'"),
        (lambda m: prune.custom_from_mask(m, "weight", X), ShapeError, "the mask is .*, not"),
        (lambda m: prune.remove(m, "weight"), ConfigError, "'weight' is not pruned"),
        (
            lambda m: prune.global_unstructured([(m, "weight")], prune.LnStructured, amount=1, n=2),
            ConfigError,
            "LnStructured is structured. Give a method of elements",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], text: str) -> None:
    layer, _ = pair()
    with pytest.raises(error, match=text):
        call(layer)
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_not_within_a_compiled_function() -> None:
    layer, _ = pair()
    with pytest.raises(TraceError, match="Prune outside of the compiled function"):
        td.compile(lambda x: prune.L1Unstructured(1).prune(x))(X)
    assert not prune.is_pruned(layer)
