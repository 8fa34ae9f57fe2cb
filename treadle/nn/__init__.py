"""Layers and models with PyTorch's names; parameters are cells. Open `module.py` first, then `gpt.py`."""

from . import functional, init
from .activation import GELU, Identity, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Tanh
from .alignment import AdditiveAttention, HardAttention, LocalAttention, LuongAttention
from .attention import GroupedQueryAttention, KVCache, MultiheadAttention
from .containers import ModuleDict, ModuleList, Sequential
from .files import load, read_arrays, save, write_arrays
from .generate import generate
from .gpt import GPT, MLP, Block, CausalSelfAttention, GPTConfig
from .layers import Dropout, Embedding, LayerNorm, Linear
from .loss import CrossEntropyLoss, MSELoss
from .module import HookHandle, IncompatibleKeys, Module
from .parameter import Buffer, Parameter
from .positions import LearnedPositions, SinusoidalPositions
from .transformer import (
    Transformer,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)

__all__ = [
    "GELU",
    "GPT",
    "MLP",
    "AdditiveAttention",
    "Block",
    "Buffer",
    "CausalSelfAttention",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "GPTConfig",
    "GroupedQueryAttention",
    "HardAttention",
    "HookHandle",
    "Identity",
    "IncompatibleKeys",
    "KVCache",
    "LayerNorm",
    "LearnedPositions",
    "Linear",
    "LocalAttention",
    "LogSoftmax",
    "LuongAttention",
    "MSELoss",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiheadAttention",
    "Parameter",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SinusoidalPositions",
    "Softmax",
    "Tanh",
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "functional",
    "generate",
    "init",
    "load",
    "read_arrays",
    "save",
    "write_arrays",
]
