"""Text from a language model, token by token: draw one from the probabilities of the next, append it, go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from treadle.core import ConfigError, DataError
from treadle.jit import compile
from treadle.tensor import Tensor, set_grad_enabled

from .gpt import GPT

Probabilities = np.ndarray[Any, np.dtype[np.float64]]


def generate(
    model: GPT,
    prompt: Sequence[int],
    count: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
) -> Iterator[int]:
    """Yield `count` tokens that follow the prompt; the same ones for the same seed.

    Args:
        model: the language model; dropout is off while it runs.
        prompt: at least one token; of a long one the last `context` count.
        count: how many to draw.
        temperature: 0 takes the most likely token, 1 draws from the model's probabilities, more evens them out.
        top_k: draw only among this many likeliest tokens.
        seed: of the draw.
    """
    if not len(prompt):
        raise DataError("generate: the prompt is empty. Give at least one token.")
    if not temperature >= 0:
        raise ConfigError(f"generate: temperature is {temperature}. It must be at least 0.")
    if top_k is not None and top_k < 1:
        raise ConfigError(f"generate: top_k is {top_k}. It must be at least 1, or None for all.")
    context = model.config.context

    @compile
    def logits_of(window: Any, last: Any) -> Tensor:
        with set_grad_enabled(False):
            return model(window)[0].take(last, axis=0)

    tokens = [int(t) for t in prompt]
    training = model.training
    model.eval()
    try:
        for number in range(count):
            # One shape for all lengths, so one program: what comes after the last token is never looked at.
            shown = tokens[-context:]
            window = np.zeros((1, context), np.int64)
            window[0, : len(shown)] = shown
            logits = logits_of(window, np.array(len(shown) - 1)).numpy()
            tokens.append(choose(logits, temperature, top_k, seed, number))
            yield tokens[-1]
    finally:
        model.train(training)


def choose(logits: np.ndarray[Any, Any], temperature: float, top_k: int | None, seed: int, number: int) -> int:
    """Return a token drawn from the logits, the `number`-th of a seed."""
    if temperature == 0:
        return int(np.argmax(logits))
    wide = logits.astype(np.float64) / temperature
    if top_k is not None and top_k < wide.size:
        wide[wide < np.partition(wide, -top_k)[-top_k]] = -np.inf
    p: Probabilities = np.exp(wide - wide.max())
    edges: Probabilities = np.cumsum(p)
    # Philox's bits as a number in [0, 1) that depends on seed and position alone.
    even = int(np.random.Philox(key=seed, counter=number << 192).random_raw(1)[0]) / 2**64
    # The least position whose edge lies above: positions with no probability are never drawn.
    return int(np.argmax(edges > even * edges[-1]))
