"""Learning-rate schedulers against PyTorch's for 50 steps; states; combinations; compiled steps stay compiled."""

import numpy as np
import pytest

import treadle as td
from treadle import nn, optim
from treadle.core import CheckpointError, ConfigError, TraceError
from treadle.optim import lr_scheduler as ours

torch = pytest.importorskip("torch")
theirs = torch.optim.lr_scheduler
STEPS = 50


def halves(epoch: int) -> float:
    return 0.5 ** (epoch // 7)


# The class and its arguments after the optimiser.
CASES = [
    ("LambdaLR", (halves,)), ("LambdaLR", ([halves, lambda e: 1 / (1 + e)],)),
    ("MultiplicativeLR", (lambda e: 0.9 + 0.01 * (e % 3),)),
    ("StepLR", (7,)), ("StepLR", (1, 0.9)), ("MultiStepLR", ([3, 10, 10, 31], 0.5)), ("ConstantLR", ()),
    ("ConstantLR", (0.25, 12)), ("LinearLR", ()), ("LinearLR", (0.1, 0.7, 20)), ("LinearLR", (1.0, 0.01, 45)),
    ("ExponentialLR", (0.93,)), ("PolynomialLR", ()), ("PolynomialLR", (40, 2.5)), ("CosineAnnealingLR", (13,)),
    ("CosineAnnealingLR", (60, 0.01)), ("CosineAnnealingLR", (1, 0.0)), ("CosineAnnealingWarmRestarts", (5,)),
    ("CosineAnnealingWarmRestarts", (4, 2, 0.01)), ("OneCycleLR", (0.5, 55)), ("OneCycleLR", ([0.5, 0.2], None, 6, 9)),
    ("OneCycleLR", (0.5, 60, None, None, 0.4, "linear", True, 0.7, 0.9, 10.0, 100.0, True)),
    ("CyclicLR", (0.01, 0.3, 6)), ("CyclicLR", (0.01, 0.3, 4, 9, "triangular2")),
    ("CyclicLR", ([0.01, 0.02], [0.3, 0.1], 5, None, "exp_range", 0.97)),
    ("CyclicLR", (0.01, 0.3, 5, 3, "triangular", 1.0, lambda x: 1 / (5 ** (x * 0.01)), "iterations", False)),
]  # fmt: skip


def make(name: str, args: tuple, of_torch: bool, kind: str = "SGD"):
    """Return an optimiser of two groups and a scheduler of it."""
    new = (lambda: torch.zeros(2, requires_grad=True)) if of_torch else (lambda: nn.Parameter(td.zeros((2,))))
    module = torch.optim if of_torch else optim
    options = {"lr": 0.1, "momentum": 0.9} if kind == "SGD" else {"lr": 0.1}
    optimizer = getattr(module, kind)([{"params": [new()]}, {"params": [new()], "lr": 0.02}], **options)
    return optimizer, getattr(theirs if of_torch else ours, name)(optimizer, *args)


def history(optimizer, scheduler, steps: int = STEPS) -> list[list[float]]:
    """Return rates and momenta at every step."""
    rows = []
    for i in range(steps):
        if i:
            optimizer.step()  # PyTorch warns otherwise
            scheduler.step()
        rows.append([g["lr"] for g in optimizer.param_groups])
        rows[-1] += [g["momentum"] if "momentum" in g else g["betas"][0] for g in optimizer.param_groups]
    return rows


@pytest.mark.parametrize(("name", "args"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_every_rate_is_pytorchs(name, args):
    a, b = make(name, args, False), make(name, args, True)
    np.testing.assert_allclose(history(*a), history(*b), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(a[1].get_last_lr(), b[1].get_last_lr(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR"])
def test_the_first_beta_cycles(name):
    args = (0.5, 60) if name == "OneCycleLR" else (0.01, 0.3, 6)
    np.testing.assert_allclose(
        history(*make(name, args, False, "Adam")), history(*make(name, args, True, "Adam")), rtol=1e-9
    )


@pytest.mark.parametrize(("name", "args"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_state_goes_round(name, args):
    optimizer, scheduler = make(name, args, False)
    history(optimizer, scheduler, 20)
    other, again = make(name, args, False)
    other.load_state_dict(optimizer.state_dict())
    again.load_state_dict(scheduler.state_dict())
    np.testing.assert_array_equal(history(other, again, 10), history(optimizer, scheduler, 10))


CLOSED = ("StepLR", "LinearLR", "PolynomialLR", "MultiStepLR", "ConstantLR", "ExponentialLR", "CosineAnnealingLR")


@pytest.mark.parametrize(("name", "args"), [c for c in CASES if c[0] in CLOSED])
@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.filterwarnings("ignore:Detected call of")
def test_an_epoch_can_be_given(name, args):
    (a, x), (b, y) = make(name, args, False), make(name, args, True)
    for epoch in (0, 4, 12, 3):
        x.step(epoch)
        y.step(epoch)
        np.testing.assert_allclose([g["lr"] for g in a.param_groups], [g["lr"] for g in b.param_groups], rtol=1e-9)


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_restarts_take_fractions_of_an_epoch():
    for args in ((5,), (4, 2)):
        (a, x), (b, y) = (make("CosineAnnealingWarmRestarts", args, t) for t in (False, True))
        for i in range(60):
            x.step(i / 3)
            y.step(i / 3)
            np.testing.assert_allclose([g["lr"] for g in a.param_groups], [g["lr"] for g in b.param_groups], rtol=1e-9)


def combined(module, optimizer, which: str):
    if which == "chained":
        parts = [
            module.ConstantLR(optimizer, 0.1, 4),
            module.ExponentialLR(optimizer, 0.9),
            module.StepLR(optimizer, 6),
        ]
        return module.ChainedScheduler(parts)
    if which == "three":
        parts = [
            module.LinearLR(optimizer, 0.1, 1.0, 5),
            module.CosineAnnealingLR(optimizer, 20),
            module.ExponentialLR(optimizer, 0.8),
        ]
        return module.SequentialLR(optimizer, parts, [5, 25])
    parts = [module.ConstantLR(optimizer, 0.1, 100), module.CosineAnnealingWarmRestarts(optimizer, 7, 2)]
    return module.SequentialLR(optimizer, parts, [11])


@pytest.mark.parametrize("which", ["chained", "three", "two"])
def test_combinations(which):
    p, t = nn.Parameter(td.zeros((2,))), torch.zeros(2, requires_grad=True)
    a, b = optim.SGD([p], lr=0.3, momentum=0.9), torch.optim.SGD([t], lr=0.3, momentum=0.9)
    x, y = combined(ours, a, which), combined(theirs, b, which)
    np.testing.assert_allclose(history(a, x, 20), history(b, y, 20), rtol=1e-9)
    state, saved = x.state_dict(), a.state_dict()
    c = optim.SGD([p], lr=0.3, momentum=0.9)
    z = combined(ours, c, which)
    c.load_state_dict(saved)
    z.load_state_dict(state)
    expected = history(b, y, 31)
    np.testing.assert_allclose(history(a, x, 31), expected, rtol=1e-9)
    np.testing.assert_allclose(history(c, z, 31), expected, rtol=1e-9)


@pytest.mark.parametrize(
    "options",
    [{}, {"patience": 2}, {"mode": "max", "patience": 1, "factor": 0.5}, {"patience": 0, "cooldown": 3},
     {"threshold_mode": "abs", "threshold": 0.2, "patience": 1}, {"patience": 1, "min_lr": [0.01, 0.015]}],
    ids=str,
)  # fmt: skip
def test_plateau(options):
    (a, x), (b, y) = (make("ReduceLROnPlateau", (), t) for t in (False, True))
    x, y = ours.ReduceLROnPlateau(a, **options), theirs.ReduceLROnPlateau(b, **options)
    values = np.abs(np.random.default_rng(0).standard_normal(STEPS)) + np.exp(-np.arange(STEPS) / 5)
    for value in values:
        x.step(td.asarray(value))
        y.step(value)
        np.testing.assert_allclose([g["lr"] for g in a.param_groups], [g["lr"] for g in b.param_groups], rtol=1e-9)
    other = ours.ReduceLROnPlateau(a, **options)
    other.load_state_dict(x.state_dict())
    assert (other.best, other.num_bad_epochs) == (x.best, x.num_bad_epochs)


def test_rates_and_momenta_compile_nothing():
    p, t = nn.Parameter(td.asarray([1.0, -2.0])), torch.tensor([1.0, -2.0], requires_grad=True)
    # No momentum at first: its state appears with the schedule.
    a, b = optim.SGD([p], lr=0.1), torch.optim.SGD([t], lr=0.1)
    x, y = ours.OneCycleLR(a, 0.2, 12), theirs.OneCycleLR(b, 0.2, 12)

    @td.compile
    def step():
        a.zero_grad()
        (p * p).sum().backward()
        a.step()

    for _ in range(10):
        step()
        x.step()
        b.zero_grad()
        (t * t).sum().backward()
        b.step()
        y.step()
        np.testing.assert_allclose(np.asarray(p), t.detach().numpy(), rtol=2e-5, atol=1e-6)
    assert step.num_compiles == 1


def test_it_goes_on_from_an_epoch():
    a, x = make("StepLR", (3, 0.5), False)
    history(a, x, 8)
    y = ours.StepLR(a, 3, 0.5, last_epoch=x.last_epoch)
    x.step()
    assert y.last_epoch == x.last_epoch
    assert y.base_lrs == [0.1, 0.02]


sgd = lambda **o: optim.SGD([nn.Parameter(td.zeros((1,)))], **o)  # noqa: E731


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ours.StepLR(nn.Linear(1, 1), 3), "StepLR: a Linear is no optimiser"),
        (lambda: ours.StepLR(sgd(lr=optim.constant(0.1)), 3), "rate of group 0 is a function of the step already"),
        (lambda: ours.StepLR(sgd(), 3, last_epoch=4), "last_epoch is 4, and group 0 has no initial_lr"),
        (lambda: ours.StepLR(sgd(), 0), "step_size is 0. It must be at least 1"),
        (lambda: ours.LambdaLR(sgd(), [halves, halves]), "lr_lambda has 2 values for 1 groups"),
        (lambda: ours.ConstantLR(sgd(), 1.5), r"factor is 1\.5\. Allowed: 0 to 1"),
        (lambda: ours.LinearLR(sgd(), 0.0), "start_factor is 0, from which no rate returns"),
        (lambda: ours.OneCycleLR(sgd(), 0.1), "the length is not known"),
        (lambda: ours.OneCycleLR(sgd(), 0.1, 10, anneal_strategy="x"), "anneal_strategy is 'x'. Allowed: cos, linear"),
        (lambda: ours.CyclicLR(optim.Rprop([nn.Parameter(td.zeros((1,)))]), 0.1, 0.2), "Rprop has no momentum"),
        (lambda: ours.CyclicLR(sgd(), 0.1, 0.2, mode="x"), "mode is 'x'. Allowed: triangular"),
        (lambda: ours.SequentialLR(sgd(), [], []), "there are no schedulers"),
        (lambda: ours.ChainedScheduler([ours.StepLR(sgd(), 1), ours.StepLR(sgd(), 1)]), "belongs to another optimiser"),
        (lambda: ours.ReduceLROnPlateau(sgd(), factor=1.0), r"factor is 1\.0\. It must be below 1"),
        (lambda: ours.ReduceLROnPlateau(sgd()).step(), "was given no value"),
        (lambda: [s := ours.OneCycleLR(sgd(), 0.1, 2), *(s.step() for _ in range(3))], "the cycle has 2"),
    ],
)
def test_wrong_settings_are_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_a_step_inside_a_compiled_function_is_refused():
    scheduler = ours.StepLR(sgd(), 1)
    with pytest.raises(TraceError, match=r"StepLR: step\(\) was called inside a compiled function"):
        td.compile(scheduler.step)()


def test_the_state_of_another_scheduler_is_refused():
    with pytest.raises(CheckpointError, match=r"the state has no \['step_size'\]"):
        ours.StepLR(sgd(), 1).load_state_dict(ours.ExponentialLR(sgd(), 0.1).state_dict())
