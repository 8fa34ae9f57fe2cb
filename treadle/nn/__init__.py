"""Layers and models with PyTorch's names; parameters are cells. Open `module.py` first, then `gpt.py`."""

from . import functional, init
from .activation import GELU, Identity, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Tanh
from .containers import ModuleDict, ModuleList, Sequential
from .files import load, read_arrays, save, write_arrays
from .generate import generate
from .gpt import GPT, MLP, Block, CausalSelfAttention, GPTConfig
from .layers import Dropout, Embedding, LayerNorm, Linear
from .loss import CrossEntropyLoss, MSELoss
from .module import HookHandle, IncompatibleKeys, Module
from .parameter import Buffer, Parameter

__all__ = [
    "GELU",
    "GPT",
    "MLP",
    "Block",
    "Buffer",
    "CausalSelfAttention",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "GPTConfig",
    "HookHandle",
    "Identity",
    "IncompatibleKeys",
    "LayerNorm",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "functional",
    "generate",
    "init",
    "load",
    "read_arrays",
    "save",
    "write_arrays",
]
