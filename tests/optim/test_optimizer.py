"""What all optimisers share: state that goes round and to PyTorch, kernels per step, groups added, closures."""

import numpy as np
import pytest

import treadle as td
from treadle import nn, optim
from treadle.core import ConfigError

torch = pytest.importorskip("torch")
# Every optimiser with settings that give it all of its state, and whether PyTorch has it.
ALL = [
    ("SGD", {"lr": 0.1, "momentum": 0.9}, True), ("Adam", {"amsgrad": True}, True), ("AdamW", {}, True),
    ("Adagrad", {"lr_decay": 0.1}, True), ("Adadelta", {}, True),
    ("RMSprop", {"momentum": 0.5, "centered": True}, True), ("Adamax", {}, True), ("NAdam", {}, True),
    ("RAdam", {}, True), ("Adafactor", {}, True), ("Rprop", {}, True), ("ASGD", {"t0": 2}, True), ("Lion", {}, False),
    ("LARS", {"trust_coefficient": 0.1}, False), ("LAMB", {}, False), ("Muon", {}, True),
]  # fmt: skip
NAMES = [name for name, _, _ in ALL]
SHAPES = ((4, 3), (3, 4))


def gradient(step: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng((step, *shape)).standard_normal(shape).astype(np.float32)


def values() -> list[np.ndarray]:
    return [gradient(99, shape) for shape in SHAPES]


def advance(params, optimizer, steps: range) -> list[np.ndarray]:
    for i in steps:
        for p in params:
            g = gradient(i, tuple(p.shape))
            p.grad = torch.tensor(g) if isinstance(p, torch.Tensor) else td.asarray(g)
        optimizer.step()
    return [np.array(p.detach().numpy()) for p in params]


@pytest.mark.parametrize(("name", "options", "_known"), ALL, ids=NAMES)
def test_state_goes_round(name, options, _known):
    params = [nn.Parameter(v) for v in values()]
    optimizer = getattr(optim, name)(params, **options)
    at = advance(params, optimizer, range(4))
    state = optimizer.state_dict()
    expected = advance(params, optimizer, range(4, 7))
    again = [nn.Parameter(v) for v in at]
    other = getattr(optim, name)(again, **options)
    other.load_state_dict(state)
    for a, b in zip(advance(again, other, range(4, 7)), expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("name", "options", "known"), ALL, ids=NAMES)
def test_state_comes_from_pytorch(name, options, known):
    if not known:
        pytest.skip("PyTorch does not have it")
    tensors = [torch.tensor(v, requires_grad=True) for v in values()]
    theirs = getattr(torch.optim, name)(tensors, **options)
    at = advance(tensors, theirs, range(4))
    state = theirs.state_dict()
    params = [nn.Parameter(v) for v in at]
    ours = getattr(optim, name)(params, **options)
    ours.load_state_dict(state)
    # The layout is the same both ways.
    saved = ours.state_dict()
    assert set(saved["state"][0]) - {"step"} == set(state["state"][0]) - {"step"}
    assert saved["param_groups"][0]["params"] == state["param_groups"][0]["params"]
    tolerance = 2e-3 if name == "Muon" else 3e-5  # PyTorch's is rounded to bfloat16
    for a, b in zip(advance(params, ours, range(4, 7)), advance(tensors, theirs, range(4, 7)), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance / 10)


@pytest.mark.parametrize(("name", "options", "_known"), ALL, ids=NAMES)
def test_kernels_of_a_step(name, options, _known):
    """One per parameter (and one per norm), however much the update computes; the counters are one more."""

    def kernels(count: int) -> int:
        params = [nn.Parameter(gradient(i, (64 + i, 48))) for i in range(count)]
        optimizer = getattr(optim, name)(params, **options)

        @td.compile
        def step(*grads):
            for p, g in zip(params, grads, strict=True):
                p.grad = g
            optimizer.step()

        plan = step.plan(*[gradient(i, tuple(p.shape)) for i, p in enumerate(params)])
        return len([s for s in plan.steps if not s.kernel.name.startswith("copy")])

    more = kernels(3) - kernels(2)
    limit = {"Adafactor": 7, "LARS": 3, "LAMB": 3, "Muon": 22}.get(name, 1)
    assert 1 <= more <= limit


@pytest.mark.parametrize(("name", "options", "_known"), ALL, ids=NAMES)
def test_bfloat16_parameters(name, options, _known):
    params = [nn.Parameter(td.asarray(v).astype("bfloat16")) for v in values()]
    optimizer = getattr(optim, name)(params, **options)
    for p in params:
        p.grad = td.ones(p.shape, dtype="bfloat16")
    optimizer.step()
    assert all(p.dtype.name == "bfloat16" for p in params)
    assert all(cell.dtype.name in ("float32", "int64") for _, cell in optimizer.cells())
    assert all(np.isfinite(np.asarray(p.value.astype("float32"))).all() for p in params)


def test_groups_are_added():
    a, b = (nn.Parameter(td.ones((2,))) for _ in range(2))
    optimizer = optim.Adam([a], lr=0.1, betas=(0.5, 0.6))
    optimizer.add_param_group({"params": [b], "lr": 0.2})
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.2]
    assert optimizer.param_groups[1]["betas"] == (0.5, 0.6)
    a.grad = b.grad = td.ones((2,))
    optimizer.step()
    np.testing.assert_allclose([np.asarray(a), np.asarray(b)], [[0.9] * 2, [0.8] * 2], rtol=1e-5)
    with pytest.raises(ConfigError, match="is given twice"):
        optimizer.add_param_group({"params": [a]})


def test_a_closure_is_called_and_its_loss_returned():
    p = nn.Parameter(td.asarray([3.0]))
    optimizer = optim.SGD([p], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with td.no_grad():
        assert float(optimizer.step(closure).detach()) == 9
    assert np.asarray(p).tolist() == [0]


@pytest.mark.parametrize(("name", "setting"), [("SGD", "momentum"), ("Adam", "betas")])
def test_a_setting_that_varies_compiles_nothing(name, setting):
    p, t = nn.Parameter(td.asarray([1.0, -2.0])), torch.tensor([1.0, -2.0], requires_grad=True)
    options = {"lr": 0.1, "momentum": 0.9} if name == "SGD" else {"lr": 0.1}
    ours, theirs = getattr(optim, name)([p], **options), getattr(torch.optim, name)([t], **options)
    group = ours.param_groups[0]
    group.vary(setting, 0.9)

    @td.compile
    def step():
        ours.zero_grad()
        (p * p).sum().backward()
        ours.step()

    for i in range(6):
        momentum = 0.9 - 0.05 * i
        group.vary(setting, momentum)
        theirs.param_groups[0][setting] = (momentum, 0.999) if setting == "betas" else momentum
        step()
        theirs.zero_grad()
        (t * t).sum().backward()
        theirs.step()
        np.testing.assert_allclose(np.asarray(p), t.detach().numpy(), rtol=1e-5)
    assert step.num_compiles == 1
    assert group[setting] == ((0.65, 0.999) if setting == "betas" else 0.65)
    if setting == "betas":
        group["betas"] = (0.5, 0.9)
        step()
        assert step.num_compiles == 2


def test_settings_about_implementations_change_nothing_but_must_exist():
    p = nn.Parameter(td.ones((1,)))
    optim.AdamW([p], fused=True, foreach=False, capturable=True)
    with pytest.raises(ConfigError, match=r"there is no setting 'fast'\. Beside its own: foreach, fused"):
        optim.AdamW([p], fast=True)
    with pytest.raises(ConfigError, match="differentiable is True"):
        optim.SGD([p], differentiable=True)
