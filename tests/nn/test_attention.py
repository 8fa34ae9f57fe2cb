"""Attention layers and transformers against PyTorch's: results, weights and gradients for the same parameters."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle import nn
from treadle.nn import functional as F

RNG = np.random.default_rng(0)


def draw(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def twins(ours: nn.Module, theirs: torch.nn.Module) -> None:
    """Give both modules the same parameters, not those they start with: biases start as 0."""
    state = {k: torch.from_numpy(draw(*v.shape) * 0.3) for k, v in theirs.state_dict().items()}
    theirs.load_state_dict(state)
    assert set(ours.state_dict()) == set(state)
    ours.load_state_dict({k: v.numpy() for k, v in state.items()})


def close(a: Any, b: torch.Tensor, tolerance: float = 2e-5) -> None:
    np.testing.assert_allclose(np.asarray(a.numpy()), b.detach().numpy(), rtol=tolerance, atol=tolerance)


def same_gradients(ours: nn.Module, theirs: torch.nn.Module) -> None:
    expected = dict(theirs.named_parameters())
    for name, p in ours.named_parameters():
        if expected[name].grad is None:
            assert p.grad is None or not np.any(p.grad.numpy()), name
            continue
        assert p.grad is not None, name
        np.testing.assert_allclose(p.grad.numpy(), expected[name].grad.numpy(), rtol=2e-4, atol=2e-4, err_msg=name)


PADDING = np.array([[False, False, True, True, False], [False] * 5, [False, True, False, False, True]])

MULTIHEAD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "batch first": ({"batch_first": True}, {}),
    "no bias": ({"bias": False}, {}),
    "kdim, vdim": ({"kdim": 7, "vdim": 5}, {}),
    "learned and zero keys": ({"add_bias_kv": True, "add_zero_attn": True}, {}),
    "padding": ({}, {"key_padding_mask": PADDING}),
    "padding, learned keys": ({"add_bias_kv": True}, {"key_padding_mask": PADDING}),
    "mask of floats": ({}, {"attn_mask": draw(4, 5)}),
    "mask of bools": ({}, {"attn_mask": RNG.random((4, 5)) < 0.3}),
    "a mask for each head": ({}, {"attn_mask": draw(6, 4, 5)}),
    "floats and bools": ({}, {"attn_mask": draw(4, 5), "key_padding_mask": np.where(PADDING, -2.0, 0.5).astype("f4")}),
}


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("name", MULTIHEAD)
def test_multihead_attention_is_pytorchs(name: str, need_weights: bool) -> None:
    settings, masks = MULTIHEAD[name]
    ours, theirs = nn.MultiheadAttention(8, 2, **settings), torch.nn.MultiheadAttention(8, 2, **settings)
    twins(ours, theirs)
    q, k, v = draw(4, 3, 8), draw(5, 3, settings.get("kdim", 8)), draw(5, 3, settings.get("vdim", 8))
    if settings.get("batch_first"):
        q, k, v = (x.swapaxes(0, 1).copy() for x in (q, k, v))
    out, weights = ours(
        td.asarray(q),
        td.asarray(k),
        td.asarray(v),
        need_weights=need_weights,
        **{n: td.asarray(m) for n, m in masks.items()},
    )
    expected, expected_weights = theirs(
        *map(torch.from_numpy, (q, k, v)),
        need_weights=need_weights,
        **{n: torch.from_numpy(m) for n, m in masks.items()},
    )
    close(out, expected)
    assert (weights is None) == (expected_weights is None)
    if weights is not None:
        close(weights, expected_weights)
    (out * out).sum().backward()
    (expected * expected).sum().backward()
    same_gradients(ours, theirs)


def test_self_attention_unbatched_causal_and_weights_of_each_head() -> None:
    ours, theirs = nn.MultiheadAttention(8, 4), torch.nn.MultiheadAttention(8, 4)
    twins(ours, theirs)
    x = draw(6, 8)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(6)
    expected, weights = theirs(
        *[torch.from_numpy(x)] * 3, attn_mask=mask, is_causal=True, need_weights=True, average_attn_weights=False
    )
    t = td.asarray(x)
    out, own = ours(t, t, t, is_causal=True, average_attn_weights=False)
    close(out, expected)
    assert own is not None
    close(own, weights)
    close(ours(t, t, t, need_weights=False, is_causal=True)[0], expected)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_rows_that_may_look_nowhere_are_zero(kind: str, compiled: bool) -> None:
    arrays = [draw(2, 3, n, 4) for n in (5, 6, 6)]
    visible = RNG.random((5, 6)) < 0.4
    visible[1], visible[2, 0] = False, True
    mask = visible if kind == "bool" else np.where(visible, 0.3, -np.inf).astype(np.float32)

    def squares(q: td.Tensor, k: td.Tensor, v: td.Tensor) -> td.Tensor:
        return (F.scaled_dot_product_attention(q, k, v, td.asarray(mask)) ** 2).sum()

    step = td.value_and_grad(squares, argnums=(0, 1, 2))
    loss, gradients = (td.compile(step) if compiled else step)(*map(td.asarray, arrays))
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    expected = (torch.nn.functional.scaled_dot_product_attention(*theirs, torch.tensor(mask)) ** 2).sum()
    expected.backward()
    close(loss, expected)
    for got, leaf in zip(gradients, theirs, strict=True):
        assert leaf.grad is not None
        close(got, leaf.grad)


def test_heads_of_no_width_look_everywhere_alike() -> None:
    got = F.scaled_dot_product_attention(td.zeros((1, 2, 0)), td.zeros((1, 3, 0)), td.asarray(draw(1, 3, 2)) * 0 + 2)
    np.testing.assert_allclose(got.numpy(), np.full((1, 2, 2), 2.0), rtol=1e-6)


def test_wrong_heads_and_ranks_are_named() -> None:
    with pytest.raises(td.ConfigError, match="width 8 is not a multiple of heads 3"):
        nn.MultiheadAttention(8, 3)
    x = td.asarray(draw(2, 3, 8))
    with pytest.raises(td.ShapeError, match="must all be"):
        nn.MultiheadAttention(8, 2)(x, x[0], x[0])


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_layer_is_pytorchs(norm_first: bool, activation: str) -> None:
    settings: dict[str, Any] = {"dropout": 0.0, "norm_first": norm_first, "activation": activation}
    ours = nn.TransformerEncoderLayer(8, 2, 16, **settings)
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 16, **settings)
    twins(ours, theirs)
    x = draw(5, 3, 8)
    out = ours(td.asarray(x), src_key_padding_mask=td.asarray(PADDING))
    expected = theirs(torch.from_numpy(x), src_key_padding_mask=torch.from_numpy(PADDING))
    close(out, expected)
    (out * out).sum().backward()
    (expected * expected).sum().backward()
    same_gradients(ours, theirs)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("batch_first", [False, True])
def test_transformer_is_pytorchs(batch_first: bool) -> None:
    sizes: dict[str, Any] = {
        "d_model": 8, "nhead": 2, "num_encoder_layers": 2, "num_decoder_layers": 2, "dim_feedforward": 16,
        "dropout": 0.0, "batch_first": batch_first,
    }  # fmt: skip
    ours, theirs = nn.Transformer(**sizes), torch.nn.Transformer(**sizes)
    twins(ours, theirs)
    src, tgt = draw(5, 3, 8), draw(4, 3, 8)
    if batch_first:
        src, tgt = src.swapaxes(0, 1).copy(), tgt.swapaxes(0, 1).copy()
    mask = ours.generate_square_subsequent_mask(4)
    expected_mask = theirs.generate_square_subsequent_mask(4)
    np.testing.assert_array_equal(mask.numpy(), expected_mask.numpy())
    out = ours(td.asarray(src), td.asarray(tgt), tgt_mask=mask, src_key_padding_mask=td.asarray(PADDING))
    expected = theirs(
        torch.from_numpy(src),
        torch.from_numpy(tgt),
        tgt_mask=expected_mask,
        src_key_padding_mask=torch.from_numpy(PADDING).float().masked_fill(torch.from_numpy(PADDING), -torch.inf),
    )
    close(out, expected, 1e-4)
    (out * out).sum().backward()
    (expected * expected).sum().backward()
    same_gradients(ours, theirs)


def test_copies_of_a_layer_have_parameters_of_their_own() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    encoder = nn.TransformerEncoder(layer, 3, nn.LayerNorm(8))
    assert len(list(encoder.parameters())) == 3 * len(list(layer.parameters())) + 2


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_grouped_heads_are_pytorchs(kv_heads: int) -> None:
    q, k, v = draw(2, 4, 5, 8), draw(2, kv_heads, 6, 8), draw(2, kv_heads, 6, 8)
    out = F.scaled_dot_product_attention(*map(td.asarray, (q, k, v)), enable_gqa=True)
    expected = torch.nn.functional.scaled_dot_product_attention(*map(torch.from_numpy, (q, k, v)), enable_gqa=True)
    close(out, expected)


def test_heads_that_do_not_divide_are_refused() -> None:
    q, k = td.asarray(draw(2, 4, 5, 8)), td.asarray(draw(2, 3, 5, 8))
    with pytest.raises(td.ShapeError, match="enable_gqa"):
        F.scaled_dot_product_attention(q, k, k, enable_gqa=True)


def test_rotary_products_depend_on_distance_alone() -> None:
    q, k = td.asarray(draw(1, 6)), td.asarray(draw(1, 6))
    for interleaved in (False, True):

        def product(m: int, n: int, interleaved: bool = interleaved) -> float:
            a = F.rotary_embedding(q, td.asarray([m]), interleaved=interleaved)
            b = F.rotary_embedding(k, td.asarray([n]), interleaved=interleaved)
            return float((a * b).sum())

        assert product(5, 3) == pytest.approx(product(12, 10), rel=1e-4)
        assert product(0, 0) == pytest.approx(float((q * k).sum()), rel=1e-5)


def test_rotary_pairs_are_turned_by_the_papers_angles() -> None:
    x = draw(3, 4)
    angles = np.arange(3)[:, None] * np.array([1.0, 10000.0**-0.5])
    z = (x[:, 0::2] + 1j * x[:, 1::2]) * np.exp(1j * angles)
    expected = np.stack([z.real, z.imag], -1).reshape(3, 4)
    np.testing.assert_allclose(F.rotary_embedding(x, interleaved=True).numpy(), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(td.ShapeError, match="even D"):
        F.rotary_embedding(draw(3, 5))


def test_alibi_slopes_are_the_papers() -> None:
    assert F.alibi_slopes(8) == [2.0**-k for k in range(1, 9)]
    assert F.alibi_slopes(3) == [2.0**-4, 2.0**-8, 2.0**-2]
    bias = F.alibi_bias(8, 2, 3).numpy()
    np.testing.assert_allclose(bias[0], -0.5 * np.array([[1, 0, 1], [2, 1, 0]]))


def test_local_mask() -> None:
    expected = np.abs(np.arange(5)[:, None] - np.arange(4)) <= 1
    np.testing.assert_array_equal(F.local_mask(5, 4, 1).numpy(), expected)
    np.testing.assert_array_equal(F.local_mask(5, 4, 1, causal=True).numpy(), np.tril(expected))


def test_sinusoidal_positions() -> None:
    table = F.sinusoidal_positions(4, 5).numpy()
    for t in range(4):
        for c in range(5):
            angle = t / 10000 ** ((c - c % 2) / 5)
            assert table[t, c] == pytest.approx(np.cos(angle) if c % 2 else np.sin(angle), abs=1e-6)
    layer = nn.SinusoidalPositions(6, 5)
    assert not list(layer.parameters())
    np.testing.assert_allclose(layer(td.zeros((2, 4, 5))).numpy()[1], table, rtol=1e-6)
    with pytest.raises(td.ShapeError, match="T up to 6"):
        layer(td.zeros((7, 5)))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("score", ["additive", "dot", "general", "concat"])
def test_alignment_scores_are_the_papers(score: str) -> None:
    q, k = draw(2, 3, 4), draw(2, 5, 4)
    if score == "additive":
        layer = nn.AdditiveAttention(4, 4, 6)
        w, u, v = (np.asarray(m.weight.numpy()) for m in (layer.query, layer.key, layer.score))
        scores = np.tanh((q @ w.T)[:, :, None] + (k @ u.T)[:, None]) @ v[0]
    else:
        layer = nn.LuongAttention(4, score=score)
        if score == "dot":
            scores = q @ k.swapaxes(1, 2)
        elif score == "general":
            scores = q @ (k @ layer.general.weight.numpy().T).swapaxes(1, 2)
        else:
            both = np.concatenate([np.broadcast_to(x, (2, 3, 5, 4)) for x in (q[:, :, None], k[:, None])], -1)
            scores = np.tanh(both @ layer.joined.weight.numpy().T) @ layer.score.weight.numpy()[0]
    weights = softmax(scores)
    context, own = layer(td.asarray(q), td.asarray(k))
    np.testing.assert_allclose(own.numpy(), weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(context.numpy(), weights @ k, rtol=1e-4, atol=1e-5)
    # One step, a mask of keys, and values of their own.
    mask, values = np.array([[True, True, False, False, True], [True] * 5]), draw(2, 5, 2)
    context, own = layer(td.asarray(q[:, 0]), td.asarray(k), td.asarray(values), td.asarray(mask))
    weights = softmax(np.where(mask[:, None], scores, -np.inf))[:, 0]
    np.testing.assert_allclose(own.numpy(), weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(context.numpy(), (weights[:, None] @ values)[:, 0], rtol=1e-4, atol=1e-5)


def test_local_attention_looks_around_its_position() -> None:
    layer = nn.LocalAttention(4, window=2)
    q, k = draw(2, 3, 4), draw(2, 9, 4)
    _, weights = layer(td.asarray(q), td.asarray(k))
    p = np.tanh(q @ layer.position.weight.numpy().T) @ layer.place.weight.numpy()[0]
    p = 9 / (1 + np.exp(-p))
    distance = np.arange(9) - p[..., None]
    scores = q @ (k @ layer.general.weight.numpy().T).swapaxes(1, 2)
    expected = softmax(np.where(np.abs(distance) <= 2, scores, -np.inf)) * np.exp(-(distance**2) / 2)
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_hard_attention_is_one_hot_with_the_gradient_of_the_softmax() -> None:
    layer = nn.HardAttention(4, 4, 6)
    soft = nn.AdditiveAttention(4, 4, 6)
    soft.load_state_dict(layer.state_dict())
    q, k = td.asarray(draw(2, 3, 4)), td.asarray(draw(2, 5, 4))
    layer.eval()
    _, hard = layer(q, k)
    _, expected = soft(q, k)
    np.testing.assert_array_equal(hard.numpy().argmax(-1), expected.numpy().argmax(-1))
    np.testing.assert_allclose(np.sort(hard.numpy(), -1)[..., -1], 1, rtol=1e-6)
    towards = td.asarray(draw(2, 3, 5))
    (hard * towards).sum().backward()
    (expected * towards).sum().backward()
    np.testing.assert_allclose(layer.key.weight.grad.numpy(), soft.key.weight.grad.numpy(), rtol=1e-4, atol=1e-6)
    layer.train()
    seen = {int(i) for _ in range(30) for i in layer(q, k)[1].numpy()[0, 0].argmax(-1, keepdims=True)}
    assert len(seen) > 1


def test_unknown_names_are_refused() -> None:
    with pytest.raises(td.ConfigError, match="Allowed: dot, general, concat"):
        nn.LuongAttention(4, score="cosine")
    with pytest.raises(td.ConfigError, match="one width"):
        nn.LuongAttention(4, 5, score="dot")
    with pytest.raises(td.ConfigError, match="Allowed: relu, gelu"):
        nn.TransformerEncoderLayer(8, 2, activation="tanh")
    with pytest.raises(td.ConfigError, match="must divide heads"):
        nn.GroupedQueryAttention(8, 4, 3)
    with pytest.raises(td.ConfigError, match="'rotary', 'alibi', None"):
        nn.GroupedQueryAttention(8, 4, positions="sine")


@pytest.mark.parametrize("positions", ["rotary", "alibi", None])
@pytest.mark.parametrize("causal", [True, False])
def test_grouped_queries_return_their_weights(positions: str | None, causal: bool) -> None:
    layer, x = nn.GroupedQueryAttention(16, 4, 2, positions=positions, causal=causal), td.random.randn(2, 5, 16)
    mask = td.asarray(np.arange(5) != 2)
    for given in (None, mask):
        out, each = layer(x, given, need_weights=True, average_attn_weights=False)
        np.testing.assert_allclose(out.numpy(), layer(x, given).numpy(), atol=1e-6)
        assert each.shape == (2, 4, 5, 5)
        np.testing.assert_allclose(each.sum(axis=-1).numpy(), 1, atol=1e-6)
        assert not each.numpy()[..., 2].any() or given is None
        assert not causal or not np.triu(each.numpy(), 1).any()
        mean = layer(x, given, need_weights=True)[1]
        np.testing.assert_allclose(mean.numpy(), each.numpy().mean(axis=1), atol=1e-6)
    cache = nn.KVCache(2, 2, 8, 4)
    layer(x[:, :4], cache=cache)
    late = layer(x[:, 4:], cache=cache, at=td.asarray(4), need_weights=True)[1]
    assert late.shape == (2, 1, 8)
    assert not late.numpy()[..., 5:].any()
    if causal:
        np.testing.assert_allclose(late.numpy()[:, 0, :5], layer(x, need_weights=True)[1].numpy()[:, 4], atol=1e-5)


def test_a_copy_trains_on_its_own() -> None:
    layer = nn.MultiheadAttention(4, 2)
    other = copy.deepcopy(layer)
    other.out_proj.bias.value = td.ones(4)
    assert not layer.out_proj.bias.numpy().any()
