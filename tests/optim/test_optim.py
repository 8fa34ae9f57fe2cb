"""Optimisers step by step against PyTorch's, compiled and not; saving; the errors of wrong settings."""

import copy
import pickle

import numpy as np
import pytest

import treadle as td
from treadle import nn, optim
from treadle.core import CheckpointError, ConfigError, NonFiniteError
from treadle.nn import functional as F

STEPS = 20
CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.05, "momentum": 0.8, "dampening": 0.3}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "betas": (0.0, 0.9)}),
    ("AdamW", {"lr": 0.02}),
    ("AdamW", {"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "maximize": True, "foreach": True}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "betas": (0.5, 0.6), "fused": None}),
    ("Adam", {"lr": 0.01, "maximize": True, "decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.02, "amsgrad": True, "maximize": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.3, "eps": 1e-3}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.7, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.02, "alpha": 0.8, "momentum": 0.7, "weight_decay": 0.1}),
    ("RMSprop", {"alpha": 0.8, "centered": True, "momentum": 0.5, "eps": 1e-3, "maximize": True}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.05, "betas": (0.7, 0.8), "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.05, "betas": (0.7, 0.8), "momentum_decay": 0.1, "weight_decay": 0.1}),
    ("NAdam", {"lr": 0.05, "decoupled_weight_decay": True, "weight_decay": 0.3, "maximize": True}),
    ("RAdam", {}),
    ("RAdam", {"lr": 0.05, "betas": (0.7, 0.95), "eps": 1e-4, "weight_decay": 0.1}),
    ("RAdam", {"lr": 0.05, "decoupled_weight_decay": True, "weight_decay": 0.3, "maximize": True}),
    ("Adafactor", {}),
    (
        "Adafactor",
        {"lr": 0.05, "beta2_decay": -0.5, "eps": (1e-4, 0.1), "d": 1.5, "weight_decay": 0.1, "maximize": True},
    ),
    ("Rprop", {}),
    ("Rprop", {"lr": 0.05, "etas": (0.3, 1.5), "step_sizes": (1e-3, 0.08), "maximize": True}),
    ("ASGD", {}),
    ("ASGD", {"lr": 0.3, "lambd": 0.1, "alpha": 0.5, "t0": 5, "weight_decay": 0.1, "maximize": True}),
]


def problem(seed: int = 0):
    """Return a small model's initial values, and a batch for every step."""
    rng = np.random.default_rng(seed)
    values = [rng.standard_normal(s).astype(np.float32) for s in ((4, 3), (4,), (2, 4))]
    batches = [(rng.standard_normal((5, 3)).astype(np.float32), rng.integers(0, 2, 5)) for _ in range(STEPS)]
    return values, batches


def theirs(name: str, options: dict, grouped: bool = False, clip: float = 0.0) -> list[np.ndarray]:
    torch = pytest.importorskip("torch")
    values, batches = problem()
    w, b, v = params = [torch.tensor(x, requires_grad=True) for x in values]
    groups = [{"params": [w, v]}, {"params": [b], "weight_decay": 0.0, "lr": 0.003}] if grouped else params
    optimizer = getattr(torch.optim, name)(groups, **options)
    history = []
    for x, y in batches:
        optimizer.zero_grad()
        h = torch.tanh(torch.tensor(x) @ w.T + b) @ v.T
        torch.nn.functional.cross_entropy(h, torch.tensor(y)).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(params, clip)
        optimizer.step()
        history.append(np.concatenate([p.detach().numpy().ravel() for p in params]))
    return history


def ours(name: str, options: dict, grouped: bool = False, clip: float = 0.0, compiled: bool = True) -> list[np.ndarray]:
    values, batches = problem()
    w, b, v = params = [nn.Parameter(x) for x in values]
    groups = [{"params": [w, v]}, {"params": [b], "weight_decay": 0.0, "lr": 0.003}] if grouped else params
    optimizer = getattr(optim, name)(groups, **options)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(F.tanh(F.linear(x, w, b)), v), y)
        loss.backward()
        if clip:
            optim.clip_grad_norm_(params, clip)
        optimizer.step()
        return loss

    run = td.compile(step) if compiled else step
    history = []
    for x, y in batches:
        run(td.asarray(x), td.asarray(y))
        history.append(np.concatenate([np.asarray(p).ravel() for p in params]))
    return history


def close(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-6, err_msg=f"step {i}")


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_every_step_is_pytorchs(name, options):
    close(ours(name, options), theirs(name, options))


@pytest.mark.parametrize(("name", "options"), [CASES[2], CASES[8]], ids=str)
def test_eager_is_the_same(name, options):
    close(ours(name, options, compiled=False), theirs(name, options))


def test_groups_have_their_own_settings():
    options = {"lr": 0.02, "weight_decay": 0.2}
    close(ours("AdamW", options, grouped=True), theirs("AdamW", options, grouped=True))


def test_clipping_is_pytorchs():
    close(ours("SGD", {"lr": 0.5}, clip=0.1), theirs("SGD", {"lr": 0.5}, clip=0.1))


def parameter(*values: float, grad: list[float] | None = None) -> nn.Parameter:
    p = nn.Parameter(td.asarray(list(values), dtype="float32"))
    p.grad = None if grad is None else td.asarray(grad, dtype="float32")
    return p


def test_the_norm_before_clipping_is_returned():
    ps = [parameter(0, 0, grad=[3.0, 0.0]), parameter(0, grad=[4.0]), parameter(0)]
    assert float(optim.clip_grad_norm_(ps, 1.0)) == pytest.approx(5)
    np.testing.assert_allclose(np.asarray(ps[0].grad), [0.6, 0], rtol=1e-5)
    assert ps[2].grad is None
    assert float(optim.clip_grad_norm_(ps, 10.0)) == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(np.asarray(ps[0].grad), [0.6, 0], rtol=1e-5)
    assert float(optim.get_total_norm([p.grad for p in ps[:2]], float("inf"))) == pytest.approx(0.8, rel=1e-5)
    optim.clip_grad_value_(ps, 0.5)
    np.testing.assert_allclose(np.asarray(ps[0].grad), [0.5, 0])


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, 0.5, float("inf")])
def test_every_norm_is_pytorchs(norm_type):
    torch = pytest.importorskip("torch")
    grads = [[3.0, -4.0], [0.5], [-1.0, 2.0, 0.0]]
    ours = [parameter(*g, grad=g) for g in grads]
    theirs = [torch.tensor(g, requires_grad=True) for g in grads]
    for t, g in zip(theirs, grads, strict=True):
        t.grad = torch.tensor(g)
    found = optim.clip_grad_norm_(ours, 1.0, norm_type)
    assert float(found) == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs, 1.0, norm_type)), rel=1e-5)
    for p, t in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(p.grad), t.grad.numpy(), rtol=1e-5)


def test_a_norm_that_is_not_finite_can_be_an_error():
    p = parameter(1.0, grad=[float("nan")])
    optim.clip_grad_norm_([p], 1.0)
    with pytest.raises(NonFiniteError, match="the norm of the gradients is nan"):
        optim.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)


def test_gradients_accumulate_over_rounds():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 3)).astype(np.float32), rng.integers(0, 2, 6)
    w = nn.Parameter(rng.standard_normal((2, 3)).astype(np.float32))
    F.cross_entropy(F.linear(x, w), y).backward()
    whole = np.asarray(w.grad)
    w.grad = None
    for part in (slice(0, 3), slice(3, 6)):
        (F.cross_entropy(F.linear(x[part], w), y[part]) / 2).backward()
    np.testing.assert_allclose(np.asarray(w.grad), whole, rtol=1e-5, atol=1e-7)


def test_parameters_without_a_gradient_stay():
    a, b = parameter(1, grad=[1.0]), parameter(1)
    optimizer = optim.SGD([a, b], lr=0.5, weight_decay=1.0)
    optimizer.step()
    assert float(a.value[0]) == 0
    assert float(b.value[0]) == 1
    optimizer.zero_grad()
    assert a.grad is None


def test_changing_the_rate_compiles_nothing_but_other_settings_do():
    p = parameter(1.0, 2.0)
    optimizer = optim.SGD([p], lr=0.1, momentum=0.5)

    @td.compile
    def step():
        optimizer.zero_grad()
        (p * p).sum().backward()
        optimizer.step()

    step()
    optimizer.param_groups[0]["lr"] = 0.01
    before = np.asarray(p)
    step()
    assert step.num_compiles == 1
    assert 0 < np.abs(np.asarray(p) - before).max() < 0.2
    optimizer.param_groups[0]["momentum"] = 0.0
    step()
    assert step.num_compiles == 2
    assert "momentum was 0.5 and is 0.0" in step.reasons[0]


def test_a_schedule_inside_a_compiled_step():
    schedule = optim.warmup(2, optim.linear(1.0, 0.0, 4))
    p = parameter(0.0)
    optimizer = optim.SGD([p], lr=schedule)

    @td.compile
    def step():
        optimizer.zero_grad()
        p.sum().backward()
        optimizer.step()
        return p.value

    positions = [0.0] + [float(step()[0]) for _ in range(7)]
    np.testing.assert_allclose(-np.diff(positions), [schedule(i) for i in range(7)], atol=1e-6)
    assert step.num_compiles == 1


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (optim.constant(0.3), [0.3] * 6),
        (optim.linear(1.0, 0.2, 4), [1.0, 0.8, 0.6, 0.4, 0.2, 0.2]),
        (optim.cosine(1.0, 0.0, 4), [1.0, 0.853553, 0.5, 0.146447, 0.0, 0.0]),
        (optim.warmup(2, optim.constant(1.0)), [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        (optim.warmup(0, optim.constant(1.0)), [1.0] * 6),
        (optim.chain((2, optim.constant(1.0)), (2, optim.linear(1.0, 0.0, 2)), last=optim.constant(0.1)),
         [1.0, 1.0, 1.0, 0.5, 0.1, 0.1]),
    ],
)  # fmt: skip
def test_schedules_on_numbers_and_tensors(schedule, expected):
    np.testing.assert_allclose([schedule(i) for i in range(6)], expected, atol=1e-6)
    np.testing.assert_allclose(np.asarray(schedule(td.arange(6, dtype="float32"))), expected, atol=1e-6)


def test_state_goes_round_and_to_pytorch():
    torch = pytest.importorskip("torch")

    def make():
        p = parameter(1.0, -2.0)
        return p, optim.AdamW([p], lr=0.1, weight_decay=0.1)

    def run(p, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            (p * p).sum().backward()
            optimizer.step()
        return np.asarray(p)

    p, optimizer = make()
    run(p, optimizer, 3)
    state, at = optimizer.state_dict(), np.asarray(p)
    expected = run(p, optimizer, 3)
    q, other = make()
    q.value = td.asarray(at)
    other.load_state_dict(state)
    np.testing.assert_array_equal(run(q, other, 3), expected)
    t = torch.tensor(at.copy(), requires_grad=True)
    theirs = torch.optim.AdamW([t], lr=0.1, weight_decay=0.1)
    saved = theirs.state_dict()
    held = {name: torch.tensor(np.array(value), dtype=torch.float32) for name, value in state["state"][0].items()}
    theirs.load_state_dict({"state": {0: held}, "param_groups": saved["param_groups"]})
    for _ in range(3):
        theirs.zero_grad()
        (t * t).sum().backward()
        theirs.step()
    np.testing.assert_allclose(t.detach().numpy(), expected, rtol=1e-5)
    r, third = make()
    third.load_state_dict(theirs.state_dict())
    assert int(third.param_groups[0].count.value) == 6
    del r


def test_bfloat16_parameters_keep_float32_state():
    p = nn.Parameter(td.ones((3,), dtype="bfloat16"))
    optimizer = optim.Adam([p], lr=0.01)
    (p * p).sum().backward()
    optimizer.step()
    assert p.dtype.name == "bfloat16"
    assert all(cell.dtype.name in ("float32", "int64") for _, cell in optimizer.cells())
    assert np.asarray(p).astype(np.float32).tolist() == [0.98828125] * 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.SGD([p], lr=-1), r"the learning rate is -1\. It must be at least 0"),
        (lambda p: optim.SGD([p], momentum=-1), "momentum is -1"),
        (lambda p: optim.SGD([p], nesterov=True), "nesterov needs momentum above 0"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), r"betas\[1\] is 1\.0\. Allowed: from 0 to below 1"),
        (lambda p: optim.AdamW([p], eps=-1), "AdamW: eps is -1"),
        (lambda p: optim.AdamW([]), r"there are no parameters\. Give model\.parameters\(\)"),
        (lambda p: optim.AdamW([p, p]), r"a parameter of shape \[1\] is given twice"),
        (lambda p: optim.AdamW([td.ones((1,))]), "a Tensor is no parameter"),
        (lambda p: optim.AdamW([{"params": [p], "lrr": 1}]), r"a group has \['lrr'\]\. Allowed: params, lr, betas"),
        (lambda p: optim.AdamW([p]).param_groups[0].__setitem__("rate", 1), "there is no setting 'rate'"),
        (lambda p: optim.clip_grad_norm_([p], 0), "max_norm is 0"),
        (lambda p: optim.clip_grad_norm_([p], 1, -1), "norm_type is -1. Allowed: numbers above 0"),
        (lambda p: optim.clip_grad_value_([p], -1), "clip_value is -1"),
        (lambda p: optim.cosine(1, 0, 0), "cosine: steps is 0"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make(parameter(1.0))


def test_state_of_another_optimiser_is_refused():
    state = optim.AdamW([parameter(1.0, 2.0)]).state_dict()
    with pytest.raises(CheckpointError, match=r"groups of \[1\] parameters, this optimiser of \[2\]"):
        optim.AdamW([parameter(1.0), parameter(2.0)]).load_state_dict(state)
    with pytest.raises(CheckpointError, match=r"exp_avg of parameter 0 is \[2\], the parameter \[1\]"):
        optim.AdamW([parameter(1.0)]).load_state_dict(state)
    with pytest.raises(CheckpointError, match="has no 'momentum_buffer'"):
        optim.SGD([parameter(1.0, 2.0)], momentum=0.9).load_state_dict(state)


def test_a_copy_of_model_and_optimiser_goes_on_alone():
    model = nn.Linear(3, 2)
    opt = optim.AdamW(model.parameters(), lr=0.1)

    def step(model, opt):
        opt.zero_grad()
        (model(np.ones((4, 3), np.float32)) ** 2).sum().backward()
        opt.step()
        return np.array(model.weight)

    step(model, opt)
    copies = [copy.deepcopy((model, opt)), pickle.loads(pickle.dumps((model, opt)))]
    before = np.array(model.weight)
    results = [step(*copied) for copied in copies]
    np.testing.assert_array_equal(np.array(model.weight), before)
    wanted = step(model, opt)
    for result in results:
        np.testing.assert_array_equal(result, wanted)


def test_zero_grad_takes_the_argument_of_pytorch():
    model = nn.Linear(3, 2)
    opt = optim.SGD(model.parameters(), lr=0.1)
    model(np.ones((4, 3), np.float32)).sum().backward()
    opt.zero_grad(set_to_none=False)
    assert np.array(model.weight.grad).tolist() == [[0.0] * 3] * 2
    opt.zero_grad()
    opt.zero_grad(set_to_none=False)
    assert model.weight.grad is None
    with pytest.raises(ConfigError, match=r"a Linear is no list of parameters. Give model.parameters\(\)"):
        optim.AdamW(model)
