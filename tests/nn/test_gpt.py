"""The GPT against PyTorch's parts put together the same way; generation; the errors of wrong sizes."""

import math

import numpy as np
import pytest

import treadle as td
from treadle import nn, optim
from treadle.core import ConfigError, IndexRangeError, ShapeError

SIZES = nn.GPTConfig(vocab_size=11, context=8, layers=2, heads=2, width=12)


def batch(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.random.default_rng(seed).integers(0, 11, (3, 9))
    return tokens[:, :-1].copy(), tokens[:, 1:].copy()


def test_parameters_are_named_tied_and_scaled():
    model = nn.GPT(SIZES)
    names = dict(model.named_parameters())
    assert len(names) == 2 + 2 * 6 + 1
    assert {"wte.weight", "wpe.weight", "blocks.1.attn.qkv.weight", "blocks.0.mlp.proj.weight", "lnf.weight"} <= set(
        names
    )
    assert abs(np.asarray(names["blocks.0.mlp.proj.weight"]).std() - 0.01) < 0.001
    assert abs(np.asarray(names["blocks.0.attn.qkv.weight"]).std() - 0.02) < 0.002


def test_forward_and_gradients_are_pytorchs():
    torch = pytest.importorskip("torch")
    TF = torch.nn.functional
    td.manual_seed(0)
    model = nn.GPT(nn.GPTConfig(**{**SIZES.__dict__, "bias": True}))
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(p, std=0.1)
    w = {name: torch.tensor(np.array(p), requires_grad=True) for name, p in model.named_parameters()}
    x, y = batch()

    def norm(h, name):
        return TF.layer_norm(h, (12,), w[name + ".weight"], w[name + ".bias"])

    def linear(h, name):
        return TF.linear(h, w[name + ".weight"], w[name + ".bias"])

    h = TF.embedding(torch.tensor(x), w["wte.weight"]) + w["wpe.weight"]
    for i in range(2):
        at = f"blocks.{i}."
        q, k, v = linear(norm(h, at + "ln1"), at + "attn.qkv").view(3, 8, 3, 2, 6).permute(2, 0, 3, 1, 4)
        a = TF.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(3, 8, 12)
        h = h + linear(a, at + "attn.proj")
        h = h + linear(TF.gelu(linear(norm(h, at + "ln2"), at + "mlp.fc")), at + "mlp.proj")
    logits = TF.linear(norm(h, "lnf"), w["wte.weight"])
    np.testing.assert_allclose(np.asarray(model(td.asarray(x))), logits.detach().numpy(), rtol=1e-4, atol=1e-5)
    loss = TF.cross_entropy(logits.flatten(0, 1), torch.tensor(y).flatten())
    loss.backward()
    ours = model.loss(td.asarray(x), td.asarray(y))
    assert float(ours) == pytest.approx(float(loss.detach()), rel=1e-5)
    ours.backward()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(np.asarray(p.grad), w[name].grad.numpy(), rtol=1e-3, atol=1e-5, err_msg=name)


def test_later_tokens_do_not_matter():
    model = nn.GPT(SIZES)
    x, _ = batch()
    other = x.copy()
    other[:, 5:] = 0
    a, b = np.asarray(model(td.asarray(x))), np.asarray(model(td.asarray(other)))
    np.testing.assert_allclose(a[:, :5], b[:, :5], atol=1e-6)
    assert np.abs(a[:, 5:] - b[:, 5:]).max() > 1e-3


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_compiled_step_learns_one_batch(dropout):
    td.manual_seed(1)
    model = nn.GPT(nn.GPTConfig(**{**SIZES.__dict__, "dropout": dropout}))
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)

    @td.compile
    def step(x, y):
        loss = model.loss(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    x, y = batch()
    losses = [float(step(x, y)) for _ in range(60)]
    assert losses[0] == pytest.approx(math.log(11), abs=0.1)
    assert losses[-1] < 0.6
    assert step.num_compiles == 1


def test_wrong_settings_are_refused():
    model = nn.GPT(SIZES)
    with pytest.raises(ConfigError, match=r"width 10 is not a multiple of heads 4\. Allowed heads: 1, 2, 5"):
        nn.GPTConfig(vocab_size=3, heads=4, width=10)
    with pytest.raises(ConfigError, match="layers is 0"):
        nn.GPTConfig(vocab_size=3, layers=0)
    with pytest.raises(ShapeError, match="9 tokens are longer than the context of 8"):
        model(td.zeros((1, 9), dtype="int64"))
    with pytest.raises(IndexRangeError, match="index 11 is out of range"):
        np.asarray(model(td.asarray([[11]])))
