"""Containers of modules and of parameters used as lists and dicts, against PyTorch's; layers that only arrange."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle import nn
from treadle.core import ConfigError, IndexRangeError, ShapeError


def layers(of: Any, count: int = 3) -> list[Any]:
    return [of.Linear(2, k + 1, bias=False) for k in range(count)]


CHANGES = [
    lambda c, m: c.append(m),
    lambda c, m: c.extend([m, m]),
    lambda c, m: c.insert(1, m),
    lambda c, m: c.insert(3, m),
    lambda c, m: c.pop(0),
    lambda c, m: c.pop(-1),
    lambda c, m: c.__delitem__(1),
    lambda c, m: c.__delitem__(slice(0, 2)),
    lambda c, m: c.__setitem__(-1, m),
    lambda c, m: c.__iadd__(type(c)(m) if "Seq" in type(c).__name__ else [m]),
]


@pytest.mark.parametrize("kind", ["Sequential", "ModuleList"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_list_changes_as_pytorchs_does(kind: str, change: Any) -> None:
    found = []
    for of in (nn, torch.nn):
        container = getattr(of, kind)(*layers(of)) if kind == "Sequential" else getattr(of, kind)(layers(of))
        change(container, of.Linear(2, 9, bias=False))
        found.append([(name, tuple(value.shape)) for name, value in container.state_dict().items()])
    assert found[0] == found[1]


def test_slices_and_sums() -> None:
    ours, theirs = nn.Sequential(*layers(nn)), torch.nn.Sequential(*layers(torch.nn))
    for index in (slice(1, None), slice(None, None, -1), slice(0, 0)):
        assert list(ours[index].state_dict()) == list(theirs[index].state_dict())
        assert [m.out_features for m in ours[index]] == [m.out_features for m in theirs[index]]
    assert len(nn.ModuleList(layers(nn)) + nn.ModuleList(layers(nn))) == 6
    named = nn.Sequential({"a": nn.ReLU(), "b": nn.Linear(2, 2)})
    assert list(named[1:].state_dict()) == ["b.weight", "b.bias"]
    assert ours[-1] is list(ours)[2]
    assert len(ours[1:].append(nn.ReLU())) == 3
    with pytest.raises(IndexRangeError, match=r"Sequential: there is no module 3, only 3\. Allowed: -3 to 2"):
        ours[3]


def test_a_changed_list_is_compiled_anew() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    run = td.compile(model)
    x = td.ones((1, 2))
    run(x)
    model.pop(0)
    np.testing.assert_array_equal(run(x).numpy(), x.numpy())


def test_a_dict_of_modules() -> None:
    held = nn.ModuleDict({"a": nn.ReLU()})
    held.update([("b", nn.Linear(2, 2))])
    assert (list(held.keys()), [k for k, _ in held.items()], len(list(held.values()))) == (["a", "b"], ["a", "b"], 2)
    assert "a" in held
    assert isinstance(held.pop("a"), nn.ReLU)
    assert "a" not in held
    with pytest.raises(KeyError):
        del held["a"]
    with pytest.raises(ConfigError, match="ModuleDict: the name 'keys' is taken by the container"):
        held["keys"] = nn.ReLU()
    held.clear()
    assert len(held) == 0


class Many(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.list = nn.ParameterList([td.ones((2,)), nn.Parameter(td.zeros((3,)))])
        self.dict = nn.ParameterDict({"a": td.ones((2,)), "b": nn.Buffer(td.zeros((1,)))})

    def forward(self, x: td.Tensor) -> td.Tensor:
        return x * self.list[0] * self.dict["a"] + sum(p.sum() for p in self.list)


def test_parameters_in_containers() -> None:
    many = Many()
    assert [name for name, _ in many.named_parameters()] == ["list.0", "list.1", "dict.a"]
    assert list(many.state_dict()) == ["list.0", "list.1", "dict.a", "dict.b"]
    loss = td.compile(lambda x: many(x).sum())(td.ones((2,)))
    assert float(loss) == 6
    many(td.ones((2,))).sum().backward()
    assert many.list[0].grad is not None
    for twin in (copy.deepcopy(many), pickle.loads(pickle.dumps(many))):
        assert list(twin.state_dict()) == list(many.state_dict())
    many.list.append(np.ones(4, np.float32))
    many.list += [td.ones((5,))]
    many.list[-1] = td.ones((6,))
    assert [p.shape for p in many.list] == [(2,), (3,), (4,), (6,)]
    assert "(3): Parameter float32[6]" in repr(many.list) or "(3): Parameter f32[6]" in repr(many.list)
    with pytest.raises(IndexRangeError, match="ParameterList: there is no parameter 4, only 4"):
        many.list[4]


def test_a_dict_of_parameters() -> None:
    held = nn.ParameterDict([("a", td.ones((2,)))])
    held.update({"b": td.zeros((1,))})
    assert (list(held), list(held.keys()), len(held)) == (["a", "b"], ["a", "b"], 2)
    assert [p.shape for p in held.values()] == [p.shape for _, p in held.items()] == [(2,), (1,)]
    assert held.get("c") is None
    assert "b" in held
    assert held.pop("b").shape == (1,)
    with pytest.raises(ConfigError, match="the name 'values' is taken"):
        held["values"] = td.ones(())
    held.clear()
    assert not list(held.parameters())


@pytest.mark.parametrize("args", [(), (0,), (1, 2), (-2, -1), (2, 2)], ids=str)
def test_flatten(args: tuple[int, ...]) -> None:
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    want = torch.nn.Flatten(*args)(torch.tensor(x)).numpy()
    np.testing.assert_array_equal(nn.Flatten(*args)(td.asarray(x)).numpy(), want)
    np.testing.assert_array_equal(td.compile(nn.Flatten(*args))(x).numpy(), want)
    assert repr(nn.Flatten(*args)) == repr(torch.nn.Flatten(*args))
    assert nn.Flatten()(td.zeros((0, 3, 2))).shape == (0, 6)


@pytest.mark.parametrize("args", [(1, (2, 3)), (-1, (2, -1)), (0, (1, 4))], ids=str)
def test_unflatten(args: Any) -> None:
    x = np.arange(24, dtype=np.int64).reshape(4, 6)
    want = torch.nn.Unflatten(*args)(torch.tensor(x)).numpy()
    np.testing.assert_array_equal(nn.Unflatten(*args)(td.asarray(x)).numpy(), want)
    assert repr(nn.Unflatten(*args)) == repr(torch.nn.Unflatten(*args))
    with pytest.raises(ShapeError, match=r"unflatten: sizes \[5, 2\] do not multiply to 6"):
        nn.Unflatten(1, (5, 2))(td.asarray(x))
