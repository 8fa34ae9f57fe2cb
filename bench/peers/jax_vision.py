"""The image models of JAX's peer as functions of parameters; channels-last measured no slower than channels-first."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import vision

Params = dict[str, jax.Array]
LAYOUT = ("NHWC", "HWIO", "NHWC")
STATISTICS = ("running_mean", "running_var")


def channels_last(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return values with the weights of convolutions as [*taps, in, out]."""
    return {name: value.transpose(2, 3, 1, 0) if value.ndim == 4 else value for name, value in values.items()}


def conv(x: jax.Array, weight: jax.Array, stride: int = 1, padding: int | None = None) -> jax.Array:
    """Return a convolution with padding that keeps the size, divided by the stride."""
    p = weight.shape[0] // 2 if padding is None else padding
    return lax.conv_general_dilated(x, weight, (stride, stride), ((p, p), (p, p)), dimension_numbers=LAYOUT)


def upward(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Return the transposed convolution with four taps, stride 2 and padding 1; the weight is that of a convolution."""
    return lax.conv_general_dilated(x, weight, (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2), dimension_numbers=LAYOUT)


# ---- T2


def norm(x: jax.Array, params: Params, statistics: Params, path: str, new: Params) -> jax.Array:
    """Return x normalised by the batch; the running statistics moved towards it go to `new`."""
    mean = jnp.mean(x, axis=(0, 1, 2))
    centered = x - mean
    var = jnp.mean(jnp.square(centered), axis=(0, 1, 2))
    count = x.size // x.shape[-1]
    for name, found in zip(STATISTICS, (mean, var * (count / (count - 1))), strict=True):
        key = f"{path}.{name}"
        new[key] = (1 - vision.BN_MOMENTUM) * statistics[key] + vision.BN_MOMENTUM * found
    return centered * lax.rsqrt(var + vision.BN_EPS) * params[path + ".weight"] + params[path + ".bias"]


def resnet18(params: Params, statistics: Params, x: jax.Array) -> tuple[jax.Array, Params]:
    """Return logits and the running statistics after the batch."""
    new: Params = {}

    def conv_norm(x: jax.Array, conv_path: str, norm_path: str, stride: int = 1) -> jax.Array:
        return norm(conv(x, params[conv_path + ".weight"], stride), params, statistics, norm_path, new)

    x = jax.nn.relu(conv_norm(x, "conv1", "bn1"))
    for block in vision.blocks(vision.RESNET18_BLOCKS, 1):
        at = block.path
        y = jax.nn.relu(conv_norm(x, at + "conv1", at + "bn1", block.stride))
        y = conv_norm(y, at + "conv2", at + "bn2")
        if block.projected:
            x = conv_norm(x, at + "downsample.0", at + "downsample.1", block.stride)
        x = jax.nn.relu(y + x)
    return jnp.mean(x, axis=(1, 2)) @ params["fc.weight"].T + params["fc.bias"], new


# ---- I1


def folded(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return ResNet-50's values with each normalisation in the convolution before it: a scaled weight, and a bias."""
    found = {name: values[name] for name in ("fc.weight", "fc.bias")}
    for name, weight in values.items():
        if weight.ndim != 4:
            continue
        path = name.removesuffix(".weight")
        bn = path[:-1] + "1" if path.endswith("downsample.0") else path.replace("conv", "bn")
        scale = values[bn + ".weight"] / np.sqrt(values[bn + ".running_var"] + np.float32(vision.BN_EPS))
        found[name] = weight * scale[:, None, None, None]
        found[path + ".bias"] = values[bn + ".bias"] - values[bn + ".running_mean"] * scale
    return found


def resnet50(params: Params, x: jax.Array) -> jax.Array:
    def conv_bias(x: jax.Array, path: str, stride: int = 1) -> jax.Array:
        return conv(x, params[path + ".weight"], stride) + params[path + ".bias"]

    x = jax.nn.relu(conv_bias(x, "conv1", 2))
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))
    for block in vision.blocks(vision.RESNET50_BLOCKS, vision.EXPANSION):
        at = block.path
        y = jax.nn.relu(conv_bias(x, at + "conv1"))
        y = jax.nn.relu(conv_bias(y, at + "conv2", block.stride))
        y = conv_bias(y, at + "conv3")
        if block.projected:
            x = conv_bias(x, at + "downsample.0", block.stride)
        x = jax.nn.relu(y + x)
    return jnp.mean(x, axis=(1, 2)) @ params["fc.weight"].T + params["fc.bias"]


# ---- T5


def as_convolutions(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the autoencoder's values; a transposed convolution's weight as that of a convolution of spread inputs."""
    found = channels_last(values)
    for name, weight in values.items():
        if name.startswith("decoder") and weight.ndim == 4:
            found[name] = weight[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)
    return found


def autoencoder(params: Params, x: jax.Array) -> jax.Array:
    for i in (0, 2, 4):
        x = jax.nn.relu(conv(x, params[f"encoder.{i}.weight"], 2, 1) + params[f"encoder.{i}.bias"])
    for i in (0, 2, 4):
        x = upward(x, params[f"decoder.{i}.weight"]) + params[f"decoder.{i}.bias"]
        x = jax.nn.sigmoid(x) if i == 4 else jax.nn.relu(x)
    return x


def images(batch: Any) -> jax.Array:
    """Return images channels-last."""
    return jnp.asarray(np.moveaxis(batch, 1, -1))
