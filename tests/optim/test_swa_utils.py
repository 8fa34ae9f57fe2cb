"""Averaged models and their rate against PyTorch's; compiled; saved."""

import numpy as np
import pytest

import treadle as td
from treadle import nn, optim
from treadle.core import ConfigError
from treadle.optim import swa_utils

torch = pytest.importorskip("torch")


def weights(i: int) -> np.ndarray:
    return np.random.default_rng(i).standard_normal((2, 3)).astype(np.float32)


def make():
    model, peer = nn.Linear(3, 2), torch.nn.Linear(3, 2)
    bias = np.array([1.0, -1.0], np.float32)
    model.bias.value = td.asarray(bias)
    peer.bias.data = torch.tensor(bias)
    return model, peer


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("decay", [None, 0.9, 0.0])
def test_averages_are_pytorchs(decay, compiled):
    model, peer = make()
    peer_fn = None if decay is None else torch.optim.swa_utils.get_ema_avg_fn(decay)
    ours = optim.AveragedModel(model) if decay is None else optim.EMA(model, decay)
    theirs = torch.optim.swa_utils.AveragedModel(peer, avg_fn=peer_fn)

    def update(w):
        model.weight.value = w
        ours.update_parameters(model)

    call = td.compile(update) if compiled else update
    for i in range(6):
        call(td.asarray(weights(i)))
        peer.weight.data = torch.tensor(weights(i))
        theirs.update_parameters(peer)
        np.testing.assert_allclose(
            np.asarray(ours.module.weight), theirs.module.weight.detach().numpy(), rtol=1e-5, atol=1e-6
        )
    assert int(ours.n_averaged) == 6
    x = np.ones((1, 3), np.float32)
    np.testing.assert_allclose(
        np.asarray(ours(td.asarray(x))), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6
    )
    assert set(ours.state_dict()) == set(theirs.state_dict())


def test_the_model_is_left_alone_and_state_goes_round():
    model, _ = make()
    ours = optim.EMA(model, 0.5)
    before = np.asarray(model.weight)
    ours.update_parameters(model)
    model.weight.value = td.zeros((2, 3))
    ours.update_parameters(model)
    np.testing.assert_allclose(np.asarray(ours.module.weight), before / 2, rtol=1e-6)
    other = optim.EMA(nn.Linear(3, 2), 0.5)
    other.load_state_dict(ours.state_dict())
    other.update_parameters(model)
    np.testing.assert_allclose(np.asarray(other.module.weight), before / 4, rtol=1e-6)
    assert not any(p.requires_grad for p in other.parameters())


def test_buffers_are_copied_or_averaged():
    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Buffer(td.zeros((1,)))
            self.count = nn.Buffer(td.asarray(0))

        def forward(self, x):
            return x

    for use_buffers, expected in ((False, 4.0), (True, 3.0)):
        model = Counted()
        ours = optim.AveragedModel(model, use_buffers=use_buffers)
        for value in (2.0, 4.0):
            model.mean.value = td.asarray([value])
            model.count.value = td.asarray(7)
            ours.update_parameters(model)
        assert float(ours.module.mean[0]) == expected
        assert int(ours.module.count) == 7


@pytest.mark.parametrize("args", [(0.05,), (0.05, 5, "linear"), ([0.3, 0.01], 7), (0.05, 0)], ids=str)
def test_the_rate_is_pytorchs(args):
    def groups(new):
        return [{"params": [new()]}, {"params": [new()], "lr": 0.02}]

    a = optim.SGD(groups(lambda: nn.Parameter(td.zeros((1,)))), lr=0.1)
    b = torch.optim.SGD(groups(lambda: torch.zeros(1, requires_grad=True)), lr=0.1)
    x, y = swa_utils.SWALR(a, *args), torch.optim.swa_utils.SWALR(b, *args)
    for _ in range(20):
        np.testing.assert_allclose([g["lr"] for g in a.param_groups], [g["lr"] for g in b.param_groups], rtol=1e-9)
        x.step()
        b.step()
        y.step()


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match=r"decay is 2\. Allowed: 0 to 1"):
        optim.EMA(nn.Linear(1, 1), 2)
    with pytest.raises(ConfigError, match="anneal_strategy is 'x'"):
        swa_utils.SWALR(optim.SGD([nn.Parameter(td.zeros((1,)))]), 0.1, 3, "x")


@pytest.mark.parametrize("averaged", [False, True])
def test_statistics_of_batches_are_pytorchs(averaged):
    ours, theirs = (of.Sequential(of.Linear(3, 4), of.BatchNorm1d(4), of.ReLU()) for of in (nn, torch.nn))
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    batches = [np.random.default_rng(i).standard_normal((6, 3)).astype(np.float32) for i in range(3)]
    if averaged:
        ours, theirs = swa_utils.AveragedModel(ours), torch.optim.swa_utils.AveragedModel(theirs)
    for model in (ours, theirs):
        model.eval()
    swa_utils.update_bn([(td.asarray(b), 0) for b in batches], ours)
    torch.optim.swa_utils.update_bn([(torch.tensor(b), 0) for b in batches], theirs)
    norm, peer = (m.module[1] if averaged else m[1] for m in (ours, theirs))
    np.testing.assert_allclose(np.asarray(norm.running_mean), peer.running_mean.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.asarray(norm.running_var), peer.running_var.numpy(), rtol=1e-5, atol=1e-6)
    assert int(norm.num_batches_tracked) == 3
    assert norm.momentum == 0.1
    assert not norm.training
    x = batches[0]
    np.testing.assert_allclose(
        np.asarray(ours(td.asarray(x))), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-4, atol=1e-5
    )


def test_a_model_without_statistics_is_not_run():
    swa_utils.update_bn(iter([object()]), nn.Linear(2, 2))
