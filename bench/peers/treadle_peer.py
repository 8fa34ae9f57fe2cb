"""treadle, as its users write it: the same models as `torch_eager`, the whole step compiled."""

from collections.abc import Callable
from typing import Any

import numpy as np

import spec
import treadle as td
import treadle_operators
import vision
from treadle import nn, optim
from treadle.nn import functional as F

NAME = "treadle"
MODULE = "treadle"
Step = Callable[[], td.Tensor]
Loss = Callable[[td.Tensor, td.Tensor], td.Tensor]


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

    def forward(self, x: td.Tensor) -> td.Tensor:
        batch, time, width = x.shape
        qkv = td.reshape(self.qkv(self.ln1(x)), (batch, time, 3, spec.HEADS, width // spec.HEADS))
        qkv = td.permute_dims(qkv, (2, 0, 3, 1, 4))
        heads = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)
        x = x + self.proj(td.reshape(td.permute_dims(heads, (0, 2, 1, 3)), (batch, time, width)))
        return x + self.fc2(F.gelu(self.fc(self.ln2(x))))


class GPT(nn.Module):
    """A decoder whose output head is tied to the token embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(spec.VOCAB, spec.WIDTH)
        self.wpe = nn.Embedding(spec.CONTEXT, spec.WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(spec.LAYERS)))
        self.lnf = nn.LayerNorm(spec.WIDTH, bias=False)

    def forward(self, tokens: td.Tensor) -> td.Tensor:
        x = self.wte(tokens) + self.wpe.weight
        return F.linear(self.lnf(self.blocks(x)), self.wte.weight)


def cross_entropy(logits: td.Tensor, targets: td.Tensor) -> td.Tensor:
    """Return the mean over all targets, whatever their axes."""
    return F.cross_entropy(td.reshape(logits, (-1, logits.shape[-1])), td.reshape(targets, (-1,)))


def training(model: nn.Module, optimizer: optim.Optimizer, batch: Any, loss_of: Loss = cross_entropy) -> Step:
    """Return the function that does one whole step."""
    x, y = batch

    @td.compile
    def train(x: td.Tensor, y: td.Tensor) -> td.Tensor:
        loss = loss_of(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return lambda: train(x, y)


def mlp(values: dict[str, np.ndarray], batch: Any) -> Step:
    a, b, c, d = spec.MLP_SIZES
    model = nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.Linear(b, c), nn.ReLU(), nn.Linear(c, d))
    model.load_state_dict(values)
    optimizer = optim.SGD(model.parameters(), lr=spec.MLP_LR, momentum=spec.MLP_MOMENTUM)
    return training(model, optimizer, batch)


def gpt(values: dict[str, np.ndarray], batch: Any) -> Step:
    model = GPT()
    model.load_state_dict(values)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": spec.GPT_DECAY},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = optim.AdamW(groups, lr=spec.GPT_LR, betas=spec.GPT_BETAS, eps=spec.GPT_EPS)
    return training(model, optimizer, batch)


class LanguageModel(nn.Module):
    """LSTM layers between an embedding and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.LSTM_VOCAB, spec.LSTM_WIDTH)
        self.lstm = nn.LSTM(spec.LSTM_WIDTH, spec.LSTM_WIDTH, spec.LSTM_LAYERS, batch_first=True)
        self.head = nn.Linear(spec.LSTM_WIDTH, spec.LSTM_VOCAB)

    def forward(self, tokens: td.Tensor) -> td.Tensor:
        return self.head(self.lstm(self.embedding(tokens))[0])


def lstm(values: dict[str, np.ndarray], batch: Any) -> Step:
    model = LanguageModel()
    model.load_state_dict(values)
    optimizer = optim.Adam(model.parameters(), lr=spec.LSTM_LR, betas=spec.LSTM_BETAS, eps=spec.LSTM_EPS)
    return training(model, optimizer, batch)


class Autoencoder(nn.Module):
    """Three convolutions down, three transposed ones up."""

    def __init__(self) -> None:
        super().__init__()
        (a, b, c, d), (e, f, g, h) = vision.ENCODER, vision.DECODER
        self.encoder = nn.Sequential(
            nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(b, c, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(c, d, 3, stride=2, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(e, f, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(f, g, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(g, h, 4, stride=2, padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: td.Tensor) -> td.Tensor:
        return self.decoder(self.encoder(x))


def autoencoder(values: dict[str, np.ndarray], batch: Any) -> Step:
    model = Autoencoder()
    model.load_state_dict(values)
    settings = (vision.AUTOENCODER_LR, vision.AUTOENCODER_BETAS, vision.AUTOENCODER_EPS)
    return training(model, optim.Adam(model.parameters(), *settings), batch, F.mse_loss)


def resnet18(values: dict[str, np.ndarray], batch: Any) -> Step:
    model = nn.resnet18(10, small_images=True)
    model.load_state_dict(values)
    optimizer = optim.SGD(model.parameters(), lr=vision.RESNET18_LR, momentum=vision.RESNET18_MOMENTUM)
    return training(model, optimizer, batch)


def fold_norms(model: nn.Module) -> None:
    """Put each batch normalisation into the convolution before it, as inference allows; the model is in eval mode."""
    for module in list(model.modules()):
        for conv, bn in vision.FOLDED:
            norm = getattr(module, bn, None)
            if isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv, nn.utils.fuse_conv_bn_eval(getattr(module, conv), norm))
                setattr(module, bn, nn.Identity())


def resnet50(values: dict[str, np.ndarray], batch: Any) -> Step:
    model = nn.resnet50()
    model.load_state_dict(values)
    model.eval()
    fold_norms(model)

    @td.compile
    def predict(x: td.Tensor) -> td.Tensor:
        with td.no_grad():
            return model(x)

    return lambda: predict(*batch)


def set_threads(count: int) -> None:
    """TREADLE_THREADS says it, which is set before this process imports treadle."""


def version() -> str:
    return td.__version__


def tiny() -> Step:
    """Return a call whose arithmetic takes no time."""
    x = td.asarray(np.ones(8, np.float32))
    scaled = td.compile(lambda x: x * 2 + 1)
    return lambda: scaled(x)


STEPS = {"T1": mlp, "T2": resnet18, "T3": gpt, "T4": lstm, "T5": autoencoder, "I1": resnet50, **treadle_operators.STEPS}
