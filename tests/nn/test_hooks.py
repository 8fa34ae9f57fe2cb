"""Hooks against PyTorch's: around calls, around the backward pass, around saving and loading; eager and compiled."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle import nn

W = np.arange(6, dtype=np.float32).reshape(2, 3) / 4 - 0.5
X = np.array([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]], np.float32)


def linear(of: Any) -> Any:
    layer = of.nn.Linear(3, 2, bias=False)
    layer.load_state_dict({"weight": td.asarray(W) if of is td else torch.tensor(W)})
    return layer


def tensor(of: Any, array: Any, requires_grad: bool = False) -> Any:
    made = td.asarray(array) if of is td else torch.tensor(array)
    return made.requires_grad_() if requires_grad else made


def arrays(values: Any) -> Any:
    if isinstance(values, list | tuple):
        return [arrays(v) for v in values]
    return (
        values.detach().numpy() if isinstance(values, td.Tensor | nn.Parameter | nn.Buffer | torch.Tensor) else values
    )


def same(ours: Any, theirs: Any) -> None:
    if isinstance(ours, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b)
    elif isinstance(ours, np.ndarray):
        assert isinstance(theirs, np.ndarray)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    else:
        assert ours == theirs


class Scaled(nn.Module):
    def forward(self, x: Any, *, factor: float = 1.0) -> Any:
        return x * factor


class TorchScaled(torch.nn.Module):
    def forward(self, x: Any, *, factor: float = 1.0) -> Any:
        return x * factor


def run_forward(of: Any) -> Any:
    """Return the order in which hooks were called, and the result."""
    layer = Scaled() if of is td else TorchScaled()
    order: list[Any] = []

    def pre(name: str) -> Any:
        return lambda module, args: order.append(name)

    layer.register_forward_pre_hook(pre("first"))
    layer.register_forward_pre_hook(pre("before it"), prepend=True)
    layer.register_forward_pre_hook(lambda m, args: args[0] + 1)
    layer.register_forward_pre_hook(lambda m, args, kwargs: (args, {"factor": kwargs["factor"] * 10}), with_kwargs=True)
    layer.register_forward_hook(lambda m, args, kwargs, y: order.append(kwargs["factor"]), with_kwargs=True)
    layer.register_forward_hook(lambda m, args, y: y + args[0], prepend=True)
    with layer.register_forward_hook(lambda m, args, y: y * 0):
        pass
    return [order, arrays(layer(tensor(of, X), factor=2.0))]


def test_forward_hooks_are_pytorchs() -> None:
    same(run_forward(td), run_forward(torch))


@pytest.mark.parametrize("of", [td, torch], ids=["treadle", "torch"])
def test_a_hook_may_be_called_although_the_call_fails(of: Any) -> None:
    class Broken(of.nn.Module):  # type: ignore[name-defined]
        def forward(self, x: Any) -> Any:
            raise ValueError("broken")

    seen: list[Any] = []
    layer = Broken()
    layer.register_forward_hook(lambda m, args, y: seen.append("never"))
    layer.register_forward_hook(lambda m, args, y: seen.append(y), always_call=True)
    with pytest.raises(ValueError, match="broken"):
        layer(1)
    assert seen == [None]


def test_an_error_in_a_hook_that_is_always_called_does_not_hide_the_first() -> None:
    class Broken(nn.Module):
        def forward(self, x: Any) -> Any:
            raise ValueError("broken")

    layer = Broken()
    layer.register_forward_hook(lambda m, args, y: y.nonsense, always_call=True)
    with pytest.warns(UserWarning, match="always_call failed"), pytest.raises(ValueError, match="broken"):
        layer(1)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # PyTorch's
@pytest.mark.parametrize("case", ["see", "replace", "pre", "frozen input", "two hooks"])
def test_backward_hooks_are_pytorchs(case: str) -> None:
    def run(of: Any) -> Any:
        layer, seen = linear(of), []
        x = tensor(of, X, requires_grad=case != "frozen input")
        if case == "replace":
            layer.register_full_backward_hook(lambda m, given, out: (given[0] * 3,))
        if case == "pre":
            layer.register_full_backward_pre_hook(lambda m, out: (out[0] * 2,))
        if case == "two hooks":
            layer.register_full_backward_hook(lambda m, given, out: (given[0] + 1,))
            layer.register_full_backward_hook(lambda m, given, out: (given[0] * 5,), prepend=True)
        layer.register_full_backward_hook(lambda m, given, out: seen.append([arrays(given), arrays(out)]))
        y = layer(x)
        (y * y).sum().backward()
        return [*seen, arrays(layer.weight.grad), arrays(x.grad)]

    same(run(td), run(torch))


@pytest.mark.parametrize("both", [True, False])
def test_backward_hooks_see_several_arguments_and_results_together(both: bool) -> None:
    def run(of: Any) -> Any:
        class Two(of.nn.Module):  # type: ignore[name-defined]
            def forward(self, a: Any, name: str, b: Any) -> Any:
                return a * b, a + b

        seen: list[Any] = []
        layer = Two()
        layer.register_full_backward_hook(lambda m, given, out: seen.append([arrays(given), arrays(out)]))
        a, b = tensor(of, X, requires_grad=True), tensor(of, X + 1)
        product, total = layer(a, "name", b)
        (product.sum() + (total * total).sum()).backward()
        return [*seen, arrays(a.grad)]

    same(run(td), run(torch))


def test_a_backward_hook_works_in_a_compiled_step() -> None:
    def gradients(compiled: bool) -> Any:
        model = nn.Sequential(linear(td), nn.Tanh(), nn.Linear(2, 1))
        nn.init.ones_(model[2].weight)
        model.register_buffer("largest", td.asarray(0.0))

        def note(module: nn.Module, given: Any, out: Any) -> Any:
            model.largest.value = abs(out[0]).max()
            return (given[0] * 0.5,) if given[0] is not None else None

        model[2].register_full_backward_hook(note)

        def step(x: Any) -> Any:
            model.zero_grad()
            model(x).sum().backward()
            return model[0].weight.grad

        step = td.compile(step) if compiled else step
        return [arrays(step(tensor(td, X))), arrays(model.largest)]

    same(gradients(True), gradients(False))
    assert gradients(True)[1] == 1


def test_a_backward_hook_inside_a_loop() -> None:
    cell = linear(td)
    cell.register_full_backward_hook(lambda m, given, out: (given[0] * 2,))

    def loss(x: Any) -> Any:
        last, _ = td.scan(lambda carry, _: (td.concat([cell(carry), carry[:, :1]], axis=1), None), x, None, length=2)
        return last.sum()

    def by_hand(x: Any) -> Any:
        for _ in range(2):
            x = td.concat([cell(x), x[:, :1]], axis=1)
        return x.sum()

    same(arrays(td.grad(loss)(tensor(td, X))), arrays(td.grad(by_hand)(tensor(td, X))))


def test_a_second_gradient_goes_through_hooks() -> None:
    layer = linear(td)
    plain = td.grad(lambda x: td.grad(lambda z: (layer(z) ** 3).sum())(x).sum())(tensor(td, X))
    layer.register_full_backward_hook(lambda m, given, out: None)
    layer.register_full_backward_pre_hook(lambda m, out: (out[0] * 1.0,))
    same(arrays(td.grad(lambda x: td.grad(lambda z: (layer(z) ** 3).sum())(x).sum())(tensor(td, X))), arrays(plain))


@pytest.mark.parametrize(
    ("hook", "error", "message"),
    [
        (lambda m, given, out: (given[0], given[0]), td.ConfigError, "returned 2 gradients for 1"),
        (
            lambda m, given, out: (given[0][:1],),
            td.GradientError,
            r"it returned f32\[1,3\] as the gradient of f32\[2,3\]",
        ),
        (lambda m, given, out: 3.0, td.GradientError, "it returned float as the gradient"),
    ],
)
def test_a_gradient_that_does_not_fit_is_refused(hook: Any, error: type[Exception], message: str) -> None:
    layer = linear(td)
    layer.register_full_backward_hook(hook)
    with pytest.raises(error, match=message):
        layer(tensor(td, X, requires_grad=True)).sum().backward()


def test_hooks_that_come_or_go_compile_anew_but_not_those_of_a_summary() -> None:
    layer = linear(td)
    run = td.compile(layer)
    x = tensor(td, X)
    plain = arrays(run(x))
    handle = layer.register_forward_hook(lambda m, args, y: y + 1)
    same(arrays(run(x)), plain + 1)
    handle.remove()
    same(arrays(run(x)), plain)
    nn.summary(layer, (2, 3))
    run(x)
    assert run.num_compiles == 2
    assert "Linear._hooked was ()" in run.reasons[0]


def test_a_copy_has_its_own_hooks() -> None:
    layer = linear(td)
    handle = layer.register_forward_hook(lambda m, args, y: y * 0)
    twin = copy.deepcopy(layer)
    handle.remove()
    assert arrays(layer(tensor(td, X))).any()
    assert not arrays(twin(tensor(td, X))).any()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda m: m.register_forward_hook(3), "a int is no hook"),
        (
            lambda m: (m.register_forward_pre_hook(lambda m, a, k: a, with_kwargs=True), m(td.ones((1, 3)))),
            "must return None, or both the tuple of arguments and the dict",
        ),
    ],
)
def test_misuse_is_said_clearly(act: Any, message: str) -> None:
    with pytest.raises(td.ConfigError, match=message):
        act(linear(td))


# --- saving and loading


def stateful(of: Any) -> Any:
    class Counting(of.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = linear(of)
            self.seen = 0

        def get_extra_state(self) -> Any:
            return {"seen": self.seen}

        def set_extra_state(self, state: Any) -> None:
            self.seen = state["seen"]

    return Counting()


def run_saving(of: Any) -> Any:
    """Return what hooks around saving and loading saw and did."""
    model, log = stateful(of), []
    model.seen = 7
    model.inner.register_state_dict_pre_hook(lambda m, prefix, keep_vars: log.append([prefix, keep_vars]))

    def rename(module: Any, state: Any, prefix: str, metadata: Any) -> None:
        log.append(prefix)
        state[prefix + "kernel"] = state.pop(prefix + "weight")

    def back(module: Any, state: Any, prefix: str, metadata: Any, strict: bool, *lists: Any) -> None:
        log.append([prefix, strict, [list(names) for names in lists]])
        if prefix + "kernel" in state:
            state[prefix + "weight"] = state.pop(prefix + "kernel")

    model.inner.register_state_dict_post_hook(rename)
    state = model.state_dict(prefix="")
    other = stateful(of)
    other.inner.register_load_state_dict_pre_hook(back)
    other.register_load_state_dict_post_hook(lambda m, keys: log.append([*keys]))
    other.load_state_dict(state)
    forgiving = stateful(of)
    forgiving.inner.register_load_state_dict_post_hook(lambda m, keys: keys.missing_keys.clear())
    forgiving.load_state_dict({"_extra_state": {"seen": 2}})
    return [log, sorted(state), sorted(state), other.seen, forgiving.seen]


def test_hooks_of_state_dicts_and_extra_state_are_pytorchs() -> None:
    same(run_saving(td), run_saving(torch))


def test_a_state_that_hooks_do_not_forgive_changes_nothing() -> None:
    model = stateful(td)
    model.register_load_state_dict_post_hook(lambda m, keys: None)
    before = arrays(model.inner.weight)
    with pytest.raises(td.CheckpointError, match="missing: _extra_state; not in the model: more"):
        model.load_state_dict({"inner.weight": W * 0, "more": W})
    same(arrays(model.inner.weight), before)

    def refuse(m: Any, state: Any, prefix: str, metadata: Any, strict: Any, a: Any, b: Any, errors: list[str]) -> None:
        errors.append("version 3 is too old")

    model.register_load_state_dict_pre_hook(refuse)
    with pytest.raises(td.CheckpointError, match=r"; version 3 is too old\. Make the model"):
        model.load_state_dict(model.state_dict())


def test_arguments_of_state_dicts() -> None:
    model = nn.Sequential(linear(td))
    held: dict[str, Any] = {"more": 1}
    assert model.state_dict(destination=held, prefix="a.", keep_vars=True) is held
    assert held["a.0.weight"] is model[0].weight
    model.load_state_dict({"0.weight": W.astype(np.float64)})
    assert model[0].weight.dtype is td.float32
    weight = model[0].weight
    model.load_state_dict({"0.weight": W.astype(np.float64)}, assign=True)
    assert weight is model[0].weight
    assert weight.dtype is td.float64
    assert weight.requires_grad


def test_extra_state_that_is_no_array_does_not_go_into_a_file(tmp_path: Any) -> None:
    with pytest.raises(td.CheckpointError, match=r"save: '_extra_state' is a dict.*Allowed: tensors and arrays"):
        nn.save(stateful(td).state_dict(), tmp_path / "x")
