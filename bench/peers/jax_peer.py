"""JAX: one jitted function per step, parameters and optimiser state donated."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jax_operators
import jax_vision
import spec
import vision

NAME = "JAX"
MODULE = "jax"
Step = Callable[[], jax.Array]
Params = dict[str, jax.Array]


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - chosen)


def layer_norm(x: jax.Array, weight: jax.Array) -> jax.Array:
    mean = jnp.mean(x, axis=-1, keepdims=True)
    var = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(var + 1e-5) * weight


def mlp_loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    h = x
    for i in (0, 2, 4):
        h = h @ params[f"{i}.weight"].T + params[f"{i}.bias"]
        h = h if i == 4 else jax.nn.relu(h)
    return cross_entropy(h, y)


def gpt_loss(params: Params, tokens: jax.Array, targets: jax.Array) -> jax.Array:
    batch, time = tokens.shape
    x = params["wte.weight"][tokens] + params["wpe.weight"]
    for i in range(spec.LAYERS):
        at = f"blocks.{i}."
        qkv = layer_norm(x, params[at + "ln1.weight"]) @ params[at + "qkv.weight"].T
        q, k, v = jnp.moveaxis(qkv.reshape(batch, time, 3, spec.HEADS, spec.WIDTH // spec.HEADS), 2, 0)
        heads = jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(batch, time, spec.WIDTH)
        x = x + heads @ params[at + "proj.weight"].T
        h = layer_norm(x, params[at + "ln2.weight"]) @ params[at + "fc.weight"].T
        x = x + jax.nn.gelu(h, approximate=False) @ params[at + "fc2.weight"].T
    return cross_entropy(layer_norm(x, params["lnf.weight"]) @ params["wte.weight"].T, targets)


def lstm_loss(params: Params, tokens: jax.Array, targets: jax.Array) -> jax.Array:
    x = jnp.swapaxes(params["embedding.weight"][tokens], 0, 1)
    for i in range(spec.LSTM_LAYERS):
        weight = params[f"lstm.weight_hh_l{i}"].T
        bias = params[f"lstm.bias_ih_l{i}"] + params[f"lstm.bias_hh_l{i}"]

        def turn(state: Any, z: jax.Array, weight: jax.Array = weight) -> Any:
            h, c = state
            i, f, g, o = jnp.split(z + h @ weight, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((tokens.shape[0], spec.LSTM_WIDTH))
        _, x = jax.lax.scan(turn, (zero, zero), x @ params[f"lstm.weight_ih_l{i}"].T + bias)
    logits = jnp.swapaxes(x, 0, 1) @ params["head.weight"].T + params["head.bias"]
    return cross_entropy(logits, targets)


def training(update: Callable[..., Any], state: Any, batch: Any) -> Step:
    """Return the function that does one whole step and waits for all of it."""
    x, y = map(jnp.asarray, batch)  # int64 becomes int32, as everywhere in JAX

    def step() -> jax.Array:
        nonlocal state
        loss, state = jax.block_until_ready(update(state, x, y))
        return loss

    return step


def mlp(values: dict[str, np.ndarray], batch: Any) -> Step:
    @partial(jax.jit, donate_argnums=0)
    def update(state: tuple[Params, Params], x: jax.Array, y: jax.Array) -> Any:
        params, velocity = state
        loss, grads = jax.value_and_grad(mlp_loss)(params, x, y)
        velocity = jax.tree.map(lambda v, g: spec.MLP_MOMENTUM * v + g, velocity, grads)
        return loss, (jax.tree.map(lambda p, v: p - spec.MLP_LR * v, params, velocity), velocity)

    params = {name: jnp.asarray(value) for name, value in values.items()}
    return training(update, (params, jax.tree.map(jnp.zeros_like, params)), batch)


def adam(
    loss_of: Callable[..., jax.Array],
    values: dict[str, np.ndarray],
    batch: Any,
    rate: float,
    betas: tuple[float, float],
    eps: float,
    decay: float = 0.0,
) -> Step:
    """Return a step of Adam, or with `decay`, of matrices alone, of AdamW."""
    beta1, beta2 = betas

    def moved(p: jax.Array, m: jax.Array, v: jax.Array, count: jax.Array) -> jax.Array:
        decayed = p * (1 - rate * decay) if decay and p.ndim >= 2 else p
        return decayed - rate * (m / (1 - beta1**count)) / (jnp.sqrt(v / (1 - beta2**count)) + eps)

    @partial(jax.jit, donate_argnums=0)
    def update(state: tuple[Params, Params, Params, jax.Array], x: jax.Array, y: jax.Array) -> Any:
        params, first, second, count = state
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        count = count + 1
        first = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, first, grads)
        second = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, second, grads)
        params = jax.tree.map(lambda p, m, v: moved(p, m, v, count), params, first, second)
        return loss, (params, first, second, count)

    params = {name: jnp.asarray(value) for name, value in values.items()}
    zeros = jax.tree.map(jnp.zeros_like, params)
    return training(update, (params, zeros, jax.tree.map(jnp.copy, zeros), jnp.float32(0)), batch)


def gpt(values: dict[str, np.ndarray], batch: Any) -> Step:
    return adam(gpt_loss, values, batch, spec.GPT_LR, spec.GPT_BETAS, spec.GPT_EPS, spec.GPT_DECAY)


def lstm(values: dict[str, np.ndarray], batch: Any) -> Step:
    return adam(lstm_loss, values, batch, spec.LSTM_LR, spec.LSTM_BETAS, spec.LSTM_EPS)


def autoencoder(values: dict[str, np.ndarray], batch: Any) -> Step:
    def loss_of(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.mean(jnp.square(jax_vision.autoencoder(params, x) - y))

    x = jax_vision.images(batch[0])
    settings = (vision.AUTOENCODER_LR, vision.AUTOENCODER_BETAS, vision.AUTOENCODER_EPS)
    return adam(loss_of, jax_vision.as_convolutions(values), (x, x), *settings)


def resnet18(values: dict[str, np.ndarray], batch: Any) -> Step:
    def loss_of(params: Params, statistics: Params, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Params]:
        logits, statistics = jax_vision.resnet18(params, statistics, x)
        return cross_entropy(logits, y), statistics

    @partial(jax.jit, donate_argnums=0)
    def update(state: tuple[Params, Params, Params], x: jax.Array, y: jax.Array) -> Any:
        params, velocity, statistics = state
        (loss, statistics), grads = jax.value_and_grad(loss_of, has_aux=True)(params, statistics, x, y)
        velocity = jax.tree.map(lambda v, g: vision.RESNET18_MOMENTUM * v + g, velocity, grads)
        return loss, (jax.tree.map(lambda p, v: p - vision.RESNET18_LR * v, params, velocity), velocity, statistics)

    held = {name: jnp.asarray(value) for name, value in jax_vision.channels_last(values).items()}
    statistics = {name: value for name, value in held.items() if name.endswith(jax_vision.STATISTICS)}
    params = {name: value for name, value in held.items() if name.endswith(("weight", "bias"))}
    velocity = jax.tree.map(jnp.zeros_like, params)
    return training(update, (params, velocity, statistics), (jax_vision.images(batch[0]), batch[1]))


def resnet50(values: dict[str, np.ndarray], batch: Any) -> Step:
    held = jax_vision.channels_last(jax_vision.folded(values))
    params, x = {name: jnp.asarray(value) for name, value in held.items()}, jax_vision.images(batch[0])
    predict = jax.jit(jax_vision.resnet50)
    return lambda: predict(params, x).block_until_ready()


def set_threads(count: int) -> None:
    """XLA sizes its thread pool by the processor mask, which is set before this process imports it."""


def version() -> str:
    return jax.__version__


def tiny() -> Step:
    """Return a call whose arithmetic takes no time."""
    x = jnp.ones(8)
    scaled = jax.jit(lambda x: x * 2 + 1)
    return lambda: scaled(x).block_until_ready()


STEPS = {"T1": mlp, "T2": resnet18, "T3": gpt, "T4": lstm, "T5": autoencoder, "I1": resnet50, **jax_operators.STEPS}
