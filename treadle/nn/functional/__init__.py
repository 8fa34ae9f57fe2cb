"""The functions behind the layers, with PyTorch's names and argument order: one file per family."""

from .activation import gelu, log_softmax, relu, sigmoid, silu, softmax, softplus, tanh
from .attention import causal_mask, scaled_dot_product_attention
from .classification import cross_entropy, nll_loss
from .dropout import dropout
from .linear import embedding, linear, one_hot
from .norm import layer_norm
from .regression import mse_loss

__all__ = [
    "causal_mask",
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "layer_norm",
    "linear",
    "log_softmax",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "relu",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]
