"""PyTorch, eager, as its users write it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import spec
import torch_operators
import torch_vision
import vision

NAME = "torch eager"
MODULE = "torch"
Step = Callable[[], Tensor]
Wrap = Callable[[Callable[..., Tensor]], Callable[..., Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]


class Block(nn.Module):
    """A pre-norm transformer block without biases."""

    def __init__(self) -> None:
        super().__init__()
        width = spec.WIDTH
        self.ln1 = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)
        self.ln2 = nn.LayerNorm(width, bias=False)
        self.fc = nn.Linear(width, 4 * width, bias=False)
        self.fc2 = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(batch, time, 3, spec.HEADS, width // spec.HEADS).permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(heads.transpose(1, 2).reshape(batch, time, width))
        return x + self.fc2(F.gelu(self.fc(self.ln2(x))))


class GPT(nn.Module):
    """A decoder whose output head is tied to the token embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(spec.VOCAB, spec.WIDTH)
        self.wpe = nn.Embedding(spec.CONTEXT, spec.WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(spec.LAYERS)))
        self.lnf = nn.LayerNorm(spec.WIDTH, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe.weight
        return F.linear(self.lnf(self.blocks(x)), self.wte.weight)


def load(model: nn.Module, values: dict[str, np.ndarray]) -> None:
    """Set the parameters; convolutions keep theirs channels-last, which leaves all others as they are."""
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in values.items()})
    model.to(memory_format=torch.channels_last)


def as_tensor(value: np.ndarray) -> Tensor:
    """Return a tensor, images channels-last: 3 to 8 % faster than channels-first in T2, T5 and I1."""
    tensor = torch.from_numpy(value)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over all targets, whatever their axes."""
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten())


def training(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any, wrap: Wrap, loss_of: Loss = cross_entropy
) -> Step:
    """Return the function that does one whole step."""
    x, y = map(as_tensor, batch)

    @wrap
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return loss_of(model(x), y)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = forward(x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def mlp(values: dict[str, np.ndarray], batch: Any, wrap: Wrap = lambda function: function) -> Step:
    a, b, c, d = spec.MLP_SIZES
    model = nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.Linear(b, c), nn.ReLU(), nn.Linear(c, d))
    load(model, values)
    # foreach is about 5 % faster than fused here; for AdamW below fused is as fast, and takes less memory.
    optimizer = torch.optim.SGD(model.parameters(), spec.MLP_LR, momentum=spec.MLP_MOMENTUM, foreach=True)
    return training(model, optimizer, batch, wrap)


def gpt(values: dict[str, np.ndarray], batch: Any, wrap: Wrap = lambda function: function) -> Step:
    model = GPT()
    load(model, values)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": spec.GPT_DECAY},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, spec.GPT_LR, betas=spec.GPT_BETAS, eps=spec.GPT_EPS, fused=True)
    return training(model, optimizer, batch, wrap)


class LanguageModel(nn.Module):
    """LSTM layers between an embedding and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.LSTM_VOCAB, spec.LSTM_WIDTH)
        self.lstm = nn.LSTM(spec.LSTM_WIDTH, spec.LSTM_WIDTH, spec.LSTM_LAYERS, batch_first=True)
        self.head = nn.Linear(spec.LSTM_WIDTH, spec.LSTM_VOCAB)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(tokens))[0])


def lstm(values: dict[str, np.ndarray], batch: Any, wrap: Wrap = lambda function: function) -> Step:
    model = LanguageModel()
    load(model, values)
    optimizer = torch.optim.Adam(model.parameters(), spec.LSTM_LR, spec.LSTM_BETAS, spec.LSTM_EPS, fused=True)
    return training(model, optimizer, batch, wrap)


def resnet18(values: dict[str, np.ndarray], batch: Any, wrap: Wrap = lambda function: function) -> Step:
    model = torch_vision.resnet18()
    load(model, values)
    optimizer = torch.optim.SGD(model.parameters(), vision.RESNET18_LR, momentum=vision.RESNET18_MOMENTUM, foreach=True)
    return training(model, optimizer, batch, wrap)


def autoencoder(values: dict[str, np.ndarray], batch: Any, wrap: Wrap = lambda function: function) -> Step:
    model = torch_vision.Autoencoder()
    load(model, values)
    settings = (vision.AUTOENCODER_LR, vision.AUTOENCODER_BETAS, vision.AUTOENCODER_EPS)
    optimizer = torch.optim.Adam(model.parameters(), *settings, fused=True)
    return training(model, optimizer, batch, wrap, F.mse_loss)


def resnet50(values: dict[str, np.ndarray], batch: Any, wrap: Wrap = lambda function: function) -> Step:
    model = torch_vision.resnet50()
    load(model, values)
    model.eval()
    torch_vision.fold_norms(model)
    x = as_tensor(batch[0])
    predict = wrap(model)

    def step() -> Tensor:
        with torch.inference_mode():
            return predict(x)

    return step


def set_threads(count: int) -> None:
    torch.set_num_threads(count)


def version() -> str:
    return torch.__version__


def tiny(wrap: Wrap = lambda function: function) -> Step:
    """Return a call whose arithmetic takes no time."""
    x = torch.ones(8)
    scaled = wrap(lambda x: x * 2 + 1)
    return lambda: scaled(x)


STEPS = {"T1": mlp, "T2": resnet18, "T3": gpt, "T4": lstm, "T5": autoencoder, "I1": resnet50, **torch_operators.STEPS}
