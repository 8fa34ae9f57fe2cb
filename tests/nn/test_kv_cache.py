"""Attention and transformer decoders, position by position with a cache, against all positions at once."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import treadle as td
from treadle import nn


def draw(*shape: int) -> td.Tensor:
    return td.asarray(np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32))


def close(a: td.Tensor | np.ndarray, b: td.Tensor | np.ndarray) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-5)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    td.manual_seed(0)
    with td.no_grad():
        yield


@pytest.mark.parametrize("positions", ["rotary", "alibi", None])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_grouped_queries_decode_from_a_cache(positions: str | None, kv_heads: int) -> None:
    layer = nn.GroupedQueryAttention(16, 4, kv_heads, positions=positions)
    x = draw(2, 7, 16)
    whole = layer(x).numpy()
    cache = nn.KVCache(2, kv_heads, 10, 4)
    step = td.compile(lambda x, at: layer(x, cache=cache, at=at))
    close(layer(x[:, :3], cache=cache), whole[:, :3])
    for t in range(3, 6):
        close(step(x[:, t : t + 1], np.array(t)), whole[:, t : t + 1])
    assert step.num_compiles == 1
    close(step(x[:, 2:7], np.array(2)), whole[:, 2:7])
    rows = td.stack([x[0, 4:6], x[1, 1:3]])
    close(step(rows, np.array([4, 1])), np.stack([whole[0, 4:6], whole[1, 1:3]]))


def test_a_mask_hides_columns_of_a_cache() -> None:
    layer = nn.GroupedQueryAttention(16, 4, 2)
    x = draw(2, 6, 16)
    hidden = np.ones((2, 1, 1, 6), bool)
    hidden[0, ..., 1] = False
    whole = layer(x, td.asarray(np.tril(np.ones((6, 6), bool)) & hidden)).numpy()
    cache = nn.KVCache(2, 2, 6, 4)
    layer(x[:, :5], cache=cache)
    close(layer(x[:, 5:], td.asarray(hidden), cache=cache, at=td.asarray(5)), whole[:, 5:])


@pytest.mark.parametrize("settings", [{}, {"batch_first": True}, {"add_bias_kv": True}, {"add_zero_attn": True}])
def test_heads_decode_from_a_cache(settings: dict[str, Any]) -> None:
    layer = nn.MultiheadAttention(16, 4, **settings).eval()
    x = draw(2, 7, 16)
    rows = (lambda x: x) if layer.batch_first else (lambda x: x.permute(1, 0, 2))
    whole, weights = layer(rows(x), rows(x), rows(x), is_causal=True)
    cache = nn.KVCache(2, 4, 7, 4)
    close(
        layer(rows(x[:, :3]), rows(x[:, :3]), rows(x[:, :3]), is_causal=True, cache=cache)[0], rows(rows(whole)[:, :3])
    )
    for t in range(3, 7):
        new = rows(x[:, t : t + 1])
        for need_weights in (False, True):
            out, seen = layer(new, new, new, need_weights=need_weights, cache=cache, at=td.asarray(t))
            close(out, rows(rows(whole)[:, t : t + 1]))
        close(seen, weights[:, t : t + 1])


def test_padding_in_a_cache_is_not_seen() -> None:
    layer = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    x = draw(2, 5, 16)
    padding = td.asarray([[True, False, False, False, False], [False] * 5])
    whole = layer(x, x, x, padding, is_causal=True)[0].numpy()
    cache = nn.KVCache(2, 4, 5, 4)
    layer(x[:, :4], x[:, :4], x[:, :4], cache=cache)
    close(layer(x[:, 4:], x[:, 4:], x[:, 4:], padding, cache=cache, at=td.asarray(4))[0], whole[:, 4:])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_decoder_decodes_row_by_row(batch_first: bool, norm_first: bool) -> None:
    model = nn.Transformer(16, 4, 1, 2, 32, batch_first=batch_first, norm_first=norm_first).eval()
    rows = (lambda x: x) if batch_first else (lambda x: x.permute(1, 0, 2))
    src, tgt = draw(2, 5, 16), draw(2, 7, 16)
    whole = rows(model(rows(src), rows(tgt), tgt_is_causal=True)).numpy()
    cache = model.decoder.new_cache(model.encoder(rows(src)), 9)
    step = td.compile(lambda x, at: model.decoder.decode(x, cache, at))
    close(rows(model.decoder.decode(rows(tgt[:, :2]), cache)), whole[:, :2])
    for t in range(2, 7):
        close(rows(step(rows(tgt[:, t : t + 1]), np.array(t))), whole[:, t : t + 1])
    assert step.num_compiles == 1
    # Another source takes its place in the same cache, from the first row on.
    src = src + 1.0
    whole = rows(model(rows(src), rows(tgt), tgt_is_causal=True)).numpy()
    model.decoder.remember(model.encoder(rows(src)), cache)
    for t in range(7):
        close(rows(step(rows(tgt[:, t : t + 1]), np.array(t))), whole[:, t : t + 1])
    assert step.num_compiles == 1


def test_a_decoder_does_not_look_at_padding_of_the_memory() -> None:
    model = nn.Transformer(16, 4, 1, 1, 32, batch_first=True).eval()
    src, tgt = draw(2, 5, 16), draw(2, 3, 16)
    padding = td.asarray([[False] * 5, [False, False, False, True, True]])
    memory = model.encoder(src, src_key_padding_mask=padding)
    whole = model.decoder(tgt, memory, tgt_is_causal=True, memory_key_padding_mask=padding).numpy()
    cache = model.decoder.new_cache(memory, 3)
    for t in range(3):
        close(model.decoder.decode(tgt[:, t : t + 1], cache, td.asarray(t), padding), whole[:, t : t + 1])


def test_a_decoder_takes_one_sequence_without_a_batch() -> None:
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 32), 2).eval()
    memory, tgt = draw(5, 16), draw(4, 16)
    whole = decoder(tgt, memory, tgt_is_causal=True).numpy()
    cache = decoder.new_cache(memory, 4)
    for t in range(4):
        close(decoder.decode(tgt[t : t + 1], cache, td.asarray(t)), whole[t : t + 1])


@pytest.mark.parametrize("kind", [nn.SinusoidalPositions, nn.LearnedPositions])
def test_positions_are_added_from_a_place_on(kind: type) -> None:
    layer, x = kind(6, 8), draw(2, 5, 8)
    whole = layer(x).numpy()
    close(layer(x[:, 2:4], td.asarray(2)), whole[:, 2:4])
    close(layer(x[0, 3:], 3), whole[0, 3:])
    rows = td.stack([x[0, 1:3], x[1, 3:5]])
    close(layer(rows, td.asarray([1, 3])), np.stack([whole[0, 1:3], whole[1, 3:5]]))


def test_a_compiled_step_writes_a_cache_in_place() -> None:
    layer, cache = nn.GroupedQueryAttention(16, 4), nn.KVCache(1, 4, 64, 4)
    step = td.compile(lambda x, at: layer(x, cache=cache, at=at))
    x = draw(1, 1, 16)
    step(x, np.array(0))
    places = [cell.held.handle.address for cell in (cache.keys, cache.values)]
    for t in range(1, 4):
        step(x, np.array(t))
    assert [cell.held.handle.address for cell in (cache.keys, cache.values)] == places


def test_what_does_not_fit_into_a_cache() -> None:
    cache = nn.KVCache(1, 2, 3, 4)
    with pytest.raises(td.ShapeError, match=r"Allowed: \[1, 2, T, 4\] with T up to 3"):
        cache.fill(draw(1, 2, 5, 4), draw(1, 2, 5, 4))
    with pytest.raises(td.ShapeError, match="KVCache"):
        cache.update(draw(1, 1, 1, 4), draw(1, 1, 1, 4), 0)
    k = draw(1, 2, 2, 4)
    cache.fill(k, k)
    keys, _ = cache.update(k, k, td.asarray(2))  # the second row stands past the end
    close(keys, np.concatenate([k, k[:, :, :1]], axis=2))
