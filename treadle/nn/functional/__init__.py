"""The functions behind the layers, with PyTorch's names and argument order: one file per family."""

from .activation import gelu, log_softmax, relu, sigmoid, silu, softmax, softplus, tanh
from .attention import (
    alibi_bias,
    alibi_slopes,
    attention_weights,
    causal_mask,
    local_mask,
    scaled_dot_product_attention,
)
from .classification import cross_entropy, nll_loss
from .dropout import dropout
from .linear import embedding, linear, one_hot
from .norm import layer_norm
from .positions import rotary_embedding, sinusoidal_positions
from .regression import mse_loss

__all__ = [
    "alibi_bias",
    "alibi_slopes",
    "attention_weights",
    "causal_mask",
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "layer_norm",
    "linear",
    "local_mask",
    "log_softmax",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "relu",
    "rotary_embedding",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "sinusoidal_positions",
    "softmax",
    "softplus",
    "tanh",
]
