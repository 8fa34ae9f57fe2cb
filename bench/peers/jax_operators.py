"""K1 for JAX: each operator as a jitted function of arrays that are there."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import operators
from jax_vision import conv


def layer_norm(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    mean = jnp.mean(x, axis=-1, keepdims=True)
    var = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
    return (x - mean) * lax.rsqrt(var + operators.NORM_EPS) * weight + bias


def chain(x: jax.Array) -> jax.Array:
    y = jax.nn.relu(x * 1.5 + 0.5)
    y = jnp.sqrt(jnp.abs(y * x - 0.25) + 1)
    return jnp.exp(-y)


OPERATORS: dict[str, Callable[..., jax.Array]] = {
    "matmul": jnp.matmul,
    "softmax": partial(jax.nn.softmax, axis=-1),
    "layer_norm": layer_norm,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "conv2d": conv,
    "chain": chain,
    "sum": jnp.sum,
    "attention": partial(jax.nn.dot_product_attention, is_causal=True),
}


def laid_out(name: str, batch: Any) -> list[np.ndarray]:
    """Return the operands in the layout that the operator takes: channels-last images, [B, T, H, D] in attention."""
    if name == "conv2d":
        x, weight = batch
        return [np.moveaxis(x, 1, -1), weight.transpose(2, 3, 1, 0)]
    return [operand.swapaxes(1, 2) for operand in batch] if name == "attention" else list(batch)


def call(name: str, values: Any, batch: Any) -> Callable[[], jax.Array]:
    operands = [jnp.asarray(operand) for operand in laid_out(name, batch)]
    run = jax.jit(OPERATORS[name])
    return lambda: run(*operands).block_until_ready()


STEPS = {f"K1.{name}": partial(call, name) for name in OPERATORS}
