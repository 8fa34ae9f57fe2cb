"""Text from a language model, token by token: draw one from the probabilities of the next, append it, go on.

The prompt is computed in one call, which leaves the keys and values of its tokens in a cache; from then on a call
computes one token. When the text outgrows the context, the last half of the context is computed anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from treadle.core import ConfigError, DataError, ShapeError
from treadle.jit import compile
from treadle.tensor import Tensor, set_grad_enabled
from treadle.tensor.creation import arange

from .gpt import GPT

Floats = np.ndarray[Any, np.dtype[np.float64]]


def generate(
    model: GPT | Decoding,
    prompt: Sequence[int],
    count: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: Collection[int] = (),
    seed: int = 0,
) -> Iterator[int]:
    """Yield up to `count` tokens that follow the prompt; the same ones for the same seed.

    Args:
        model: the language model, whose dropout is off meanwhile; or a Decoding, which keeps what was compiled.
        prompt: at least one token; of a long one the last `context` count.
        count: how many to draw.
        temperature: 0 takes the most likely token, 1 draws from the model's probabilities, more evens them out.
        top_k: draw only among this many likeliest tokens.
        top_p: draw only among the fewest tokens whose probabilities add up to this (Holtzman et al. 2020,
            arXiv:1904.09751, section 3.1), after `temperature` and `top_k`.
        stop: tokens that end the text; the one drawn is the last one yielded.
        seed: of the draw.
    """
    settings: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "stop": stop, "seed": seed}
    for (token,) in generate_batch(model, [prompt], count, **settings):
        if token is not None:
            yield token


def generate_batch(
    model: GPT | Decoding,
    prompts: Sequence[Sequence[int]],
    count: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: Collection[int] = (),
    seed: int = 0,
) -> Iterator[list[int | None]]:
    """Yield up to `count` times the next token of every text; None for those that have met a stop token.

    Prompts may differ in length. What follows one does not depend on the others; texts draw different random numbers,
    the first one those of `generate`. The arguments are its.
    """
    if not prompts or not all(len(p) for p in prompts):
        raise DataError("generate: the prompt is empty. Give at least one token.")
    sampler = Sampler(temperature, top_k, top_p, seed)
    texts = [[int(t) for t in p] for p in prompts]
    over = [False] * len(texts)
    decoding = model if isinstance(model, Decoding) else Decoding(model, len(texts))
    model = decoding.model
    training = model.training
    model.eval()
    try:
        decoding.start(texts)
        for number in range(count):
            logits_BV = decoding.logits(texts)
            drawn: list[int | None] = [None] * len(texts)
            for row, text in enumerate(texts):
                if not over[row]:
                    drawn[row] = token = sampler.choose(logits_BV[row], number, row)
                    text.append(token)
                    over[row] = token in stop
            yield drawn
            if all(over):
                return
    finally:
        model.train(training)


class Decoding:
    """A model and its cache, which follow a batch of texts as they grow; every shape is compiled once.

    Each text has a window, the tokens that the model sees: at first the last `context` ones. When it is full and one
    is to come, it starts anew with the last half of the context, and what the cache holds is computed anew.

    Args:
        model: the language model; whoever decodes calls its `eval()`.
        batch: B, how many texts.
    """

    def __init__(self, model: GPT, batch: int = 1) -> None:
        self.model, self.batch = model, batch
        self.context = model.config.context
        self.half = max(1, self.context // 2)
        self.starts: list[int] = []  # where each text's window begins
        self.filled = False  # whether the cache holds the windows but for their last tokens
        cache = model.new_cache(batch)

        @compile
        def prefill(window_BT: Any, last_B: Any) -> Tensor:
            with set_grad_enabled(False):
                x_BTC = model.features(window_BT, cache)
                return model.head(x_BTC[arange(batch), last_B])

        @compile
        def step(token_B1: Any, at_B: Any) -> Tensor:
            with set_grad_enabled(False):
                return model(token_B1, cache, at_B)[:, 0]

        self.prefill, self.step = prefill, step

    def start(self, texts: Sequence[Sequence[int]]) -> None:
        """Turn to other texts, B of them."""
        if len(texts) != self.batch:
            raise ShapeError(f"Decoding: {len(texts)} texts were given; it was made for {self.batch}.")
        self.starts = [max(0, len(text) - self.context) for text in texts]
        self.filled = False

    def logits(self, texts: Sequence[Sequence[int]]) -> np.ndarray[Any, Any]:
        """Return the logits [B, V] of the token after each text; since the last call each has grown by one or none."""
        for row, text in enumerate(texts):
            if len(text) - self.starts[row] > self.context:
                self.starts[row] = len(text) - self.half
                self.filled = False
        shown = [text[start:] for text, start in zip(texts, self.starts, strict=True)]
        last = np.array([len(s) - 1 for s in shown])
        if self.filled:
            return self.step(np.array([s[-1:] for s in shown]), last).numpy()
        # Two widths for all lengths, so at most two programs. What pads is overwritten before it is looked at.
        window = np.zeros((self.batch, self.half if last.max() < self.half else self.context), np.int64)
        for row, tokens in zip(window, shown, strict=True):
            row[: len(tokens)] = tokens
        self.filled = True
        return self.prefill(window, last).numpy()


class Sampler:
    """Draws a token from logits; the settings are those of `generate`."""

    def __init__(
        self, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None, seed: int = 0
    ) -> None:
        if not temperature >= 0:
            raise ConfigError(f"generate: temperature is {temperature}. It must be at least 0.")
        if top_k is not None and top_k < 1:
            raise ConfigError(f"generate: top_k is {top_k}. It must be at least 1, or None for all.")
        if top_p is not None and not 0 < top_p <= 1:
            raise ConfigError(f"generate: top_p is {top_p}. It must be above 0 and at most 1, or None for all.")
        self.temperature, self.top_k, self.top_p, self.seed = temperature, top_k, top_p, seed

    def choose(self, logits: np.ndarray[Any, Any], number: int, row: int = 0) -> int:
        """Return a token drawn from logits [V], the `number`-th of a row of the seed."""
        if self.temperature == 0:
            return int(np.argmax(logits))
        edges: Floats = np.cumsum(self.weights(logits))
        # Philox's bits as a number in [0, 1) that depends on seed, row and position alone.
        even = int(np.random.Philox(key=self.seed, counter=number << 192 | row << 128).random_raw(1)[0]) / 2**64
        # The least position whose edge lies above: positions with no probability are never drawn.
        return int(np.argmax(edges > even * edges[-1]))

    def weights(self, logits: np.ndarray[Any, Any]) -> Floats:
        """Return what the probabilities of the tokens are proportional to."""
        wide: Floats = logits.astype(np.float64) / self.temperature
        if self.top_k is not None and self.top_k < wide.size:
            wide[wide < np.partition(wide, -self.top_k)[-self.top_k]] = -np.inf
        p: Floats = np.exp(wide - wide.max())
        return p if self.top_p is None else _nucleus(p, self.top_p)


def _nucleus(p: Floats, share: float) -> Floats:
    """Return p with zeros for all but the fewest largest elements that make up a share of the sum."""
    total = p.sum()
    # Those below a V-th of what is left out can only be among it: few remain to be sorted.
    likely = np.flatnonzero(p * p.size >= (1 - share) * total)
    order = likely[np.argsort(-p[likely], kind="stable")]
    before = np.cumsum(p[order]) - p[order]
    kept = order[before < share * total]
    only = np.zeros_like(p)
    only[kept] = p[kept]
    return only
