"""Decoding with a cache against computing the whole window for every token; drawing; windows; batches; errors."""

import numpy as np
import pytest

import treadle as td
from treadle import nn
from treadle.core import ConfigError, DataError, ShapeError
from treadle.nn.generate import Sampler

SIZES = nn.GPTConfig(vocab_size=11, context=8, layers=2, heads=2, width=12)


def made() -> nn.GPT:
    td.manual_seed(0)
    model = nn.GPT(SIZES)
    for name, p in model.named_parameters():  # the blocks decide, not the token shown last
        if name != "wte.weight" and p.ndim > 1:
            p.value = p * 30.0
    return model.eval()


MODEL = made()
DECODING = nn.Decoding(MODEL)  # so that most tests compile nothing


@td.compile
def forward(window: np.ndarray) -> td.Tensor:
    with td.no_grad():
        return MODEL(window)[0]


def logits_of(text: list[int]) -> np.ndarray:
    """Return the logits after a text by one call of the whole model."""
    window = np.zeros((1, SIZES.context), np.int64)
    window[0, : len(text)] = text
    return forward(window).numpy()[len(text) - 1]


def uncached(prompt: list[int], count: int, sampler: Sampler, row: int = 0) -> list[int]:
    """Return what `generate` is to yield, by one forward of the window per token."""
    text, start = list(prompt), max(0, len(prompt) - SIZES.context)
    for number in range(count):
        if len(text) - start > SIZES.context:
            start = len(text) - SIZES.context // 2
        text.append(sampler.choose(logits_of(text[start:]), number, row))
    return text[len(prompt) :]


@pytest.mark.parametrize("prompt", [[3], [1, 2, 3, 4], [5, 6, 7, 8, 9], list(range(8)), [*range(11), 1]])
def test_greedy_tokens_are_those_of_the_uncached_way(prompt: list[int]) -> None:
    expected = uncached(prompt, 20, Sampler(0))
    assert len(set(expected)) > 2
    assert list(nn.generate(DECODING, prompt, 20, temperature=0)) == expected


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.5}, {"top_k": 6, "top_p": 0.9}]
)
def test_drawn_tokens_are_those_of_the_uncached_way(settings: dict[str, float]) -> None:
    expected = uncached([1, 2], 15, Sampler(**settings, seed=3))
    assert list(nn.generate(DECODING, [1, 2], 15, **settings, seed=3)) == expected
    assert list(nn.generate(DECODING, [1, 2], 15, **settings, seed=4)) != expected


def test_prompts_of_a_batch_are_independent() -> None:
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 0]]
    for sampler, settings in ((Sampler(0), {"temperature": 0}), (Sampler(seed=5), {"seed": 5})):
        rows = list(nn.generate_batch(MODEL, prompts, 12, **settings))
        for row, prompt in enumerate(prompts):
            assert [tokens[row] for tokens in rows] == uncached(prompt, 12, sampler, row)


def test_logits_are_those_of_the_uncached_way_and_nothing_is_compiled_per_token() -> None:
    texts = [[1, 2, 3], [4]]
    decoding = nn.Decoding(MODEL, 2)
    decoding.start(texts)
    for token in range(SIZES.context - 3):
        logits = decoding.logits(texts)
        for text, row in zip(texts, logits, strict=True):
            np.testing.assert_allclose(row, logits_of(text), atol=1e-5)
            text.append(token)
    assert decoding.prefill.num_compiles == 1
    assert decoding.step.num_compiles == 1


def test_a_decoding_is_used_again() -> None:
    decoding = nn.Decoding(MODEL)
    for prompt in ([1, 2], [7], [1, 2, 3, 4, 5]):
        assert list(nn.generate(decoding, prompt, 9, seed=1)) == list(nn.generate(DECODING, prompt, 9, seed=1))
    assert decoding.step.num_compiles == 1
    assert decoding.prefill.num_compiles == 2  # half a context, and a whole one
    with pytest.raises(ShapeError, match="2 texts were given; it was made for 1"):
        next(nn.generate_batch(decoding, [[1], [2]], 1))


def test_a_cache_takes_several_tokens_at_any_place_of_each_row() -> None:
    tokens = np.random.default_rng(0).integers(0, 11, (2, 8))
    expected = MODEL(td.asarray(tokens)).numpy()
    cache = MODEL.new_cache(2)
    MODEL(td.asarray(tokens[:, :4]), cache)
    at = np.array([4, 2])  # the second row goes back: what it wrote at 2 and 3 is replaced
    more = np.stack([tokens[0, 4:7], tokens[1, 2:5]])
    logits = MODEL(td.asarray(more), cache, td.asarray(at)).numpy()
    np.testing.assert_allclose(logits[0], expected[0, 4:7], atol=1e-5)
    np.testing.assert_allclose(logits[1], expected[1, 2:5], atol=1e-5)
    logits = MODEL(td.asarray(tokens[:, 5:7]), cache, td.asarray(5)).numpy()
    np.testing.assert_allclose(logits, expected[:, 5:7], atol=1e-5)


def test_a_text_ends_with_its_stop_token() -> None:
    free = [list(nn.generate(DECODING, prompt, 12, seed=2)) for prompt in ([1], [2])]
    stop = free[0][4]
    cut = free[0][: free[0].index(stop) + 1]
    assert list(nn.generate(DECODING, [1], 12, seed=2, stop=[stop])) == cut
    plain = list(nn.generate_batch(MODEL, [[1], [2]], 12, seed=2))
    rows = list(nn.generate_batch(MODEL, [[1], [2]], 12, seed=2, stop={stop}))
    for row in range(2):
        whole = [tokens[row] for tokens in plain]
        end = whole.index(stop) + 1 if stop in whole else len(whole)
        assert [tokens[row] for tokens in rows] == (whole[:end] + [None] * 12)[: len(rows)]


def test_a_model_is_left_in_the_mode_it_was_in() -> None:
    model = nn.GPT(SIZES)
    stream = nn.generate(model, [1], 5)
    next(stream)
    assert not model.training
    stream.close()
    assert model.training


def test_choosing_follows_the_probabilities() -> None:
    logits = np.log(np.array([0.5, 0.25, 0.25, 1e-30], np.float32))
    drawn = np.bincount([Sampler().choose(logits, i) for i in range(2000)], minlength=4) / 2000
    assert np.abs(drawn - [0.5, 0.25, 0.25, 0]).max() < 0.03
    assert {Sampler(top_k=1).choose(logits, i) for i in range(50)} == {0}
    assert Sampler(0).choose(logits, 0) == 0
    assert {Sampler().choose(logits, 0, row) for row in range(50)} == {0, 1, 2}


@pytest.mark.parametrize(
    ("share", "kept"), [(1.0, [0, 1, 2, 3]), (0.95, [0, 1, 2]), (0.9, [0, 2]), (0.6, [0, 2]), (0.5, [2]), (1e-9, [2])]
)
def test_top_p_keeps_the_fewest_tokens_that_make_up_the_share(share: float, kept: list[int]) -> None:
    logits = np.log([0.375, 0.0625, 0.53125, 0.03125])
    weights = Sampler(top_p=share).weights(logits)
    assert np.flatnonzero(weights).tolist() == kept
    np.testing.assert_allclose(weights[kept], np.exp(logits[kept] - logits[2]))


def test_wrong_settings_are_refused() -> None:
    for prompts in ([], [[]], [[1], []]):
        with pytest.raises(DataError, match="prompt"):
            next(nn.generate_batch(MODEL, prompts, 1))
    for settings, message in (
        ({"temperature": -1}, "temperature is -1"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ):
        with pytest.raises(ConfigError, match=message):
            next(nn.generate(DECODING, [1], 1, **settings))
