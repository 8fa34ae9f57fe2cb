"""A GPT built up in seven stages, each one idea more; the ladder of validation losses shows what each is worth.

The text is the source code of Python's standard library; every stage trains for the same number of steps.
"""

import os
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

import treadle as td
from treadle import data, nn, optim
from treadle.nn import functional as F

SMALL = os.environ.get("TREADLE_EXAMPLE") == "small"
STEPS = 60 if SMALL else 1500
BATCH = 8 if SMALL else 16


@dataclass(frozen=True)
class Stage:
    """What a model has."""

    name: str
    heads: int = 0  # 0: a token sees only itself
    feed_forward: bool = False
    residual: bool = False  # and a layer norm before each block
    dropout: float = 0.0
    layers: int = 1
    width: int = 64
    context: int = 32


class Block(nn.Module):
    """Attention and feed-forward, as far as the stage has them."""

    def __init__(self, stage: Stage):
        super().__init__()
        self.residual = stage.residual
        self.norms = nn.ModuleList(nn.LayerNorm(stage.width) for _ in range(2))
        self.attention = nn.CausalSelfAttention(stage.width, stage.heads, dropout=stage.dropout)
        self.mlp = nn.MLP(stage.width, dropout=stage.dropout) if stage.feed_forward else None

    def forward(self, x):
        for norm, block in zip(self.norms, (self.attention, self.mlp), strict=True):
            if block is not None:
                x = x + block(norm(x)) if self.residual else block(x)
        return x


class Model(nn.Module):
    """Embedding, positions, blocks, and a linear layer to the next token."""

    def __init__(self, stage: Stage, vocabulary: int):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, stage.width)
        self.positions = nn.LearnedPositions(stage.context, stage.width) if stage.heads else nn.Identity()
        self.blocks = nn.Sequential(*(Block(stage) for _ in range(stage.layers if stage.heads else 0)))
        self.norm = nn.LayerNorm(stage.width) if stage.residual else nn.Identity()
        self.head = nn.Linear(stage.width, vocabulary)

    def forward(self, tokens):
        return self.head(self.norm(self.blocks(self.positions(self.tokens(tokens)))))


bigram = Stage("bigram")
one_head = replace(bigram, name="one head", heads=1)
several = replace(one_head, name="four heads", heads=4)
thinking = replace(several, name="+ feed-forward", feed_forward=True)
deep = replace(thinking, name="+ residual and norm, 3 layers", residual=True, layers=3)
dropped = replace(deep, name="+ dropout", dropout=0.1)
scaled = replace(dropped, name="scaled up", width=128, context=64, layers=4)
LADDER = [bigram, several, deep] if SMALL else [bigram, one_head, several, thinking, deep, dropped, scaled]

text = data.read_text(limit=2_000_000 if SMALL else None).data
tokens = np.frombuffer(text, np.uint8)
cut = len(tokens) * 9 // 10

losses: list[float] = []
for stage in LADDER:
    td.manual_seed(0)
    model = Model(stage, 256)
    opt = optim.AdamW(model.parameters(), lr=optim.warmup(50, optim.cosine(3e-3, 3e-4, STEPS)))
    train = data.Windows(tokens[:cut], stage.context, BATCH)
    held_out = data.Windows(tokens[cut:], stage.context, BATCH, seed=1)

    def loss_of(x, y, model=model):
        return F.cross_entropy(model(x).reshape(-1, 256), y.reshape(-1))

    @td.compile
    def step(x, y, loss_of=loss_of, opt=opt):
        loss = loss_of(x, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    @td.compile
    def evaluate(x, y, loss_of=loss_of):
        return loss_of(x, y)

    start = perf_counter()
    for i in range(STEPS):
        step(*train.batch(i))
    model.eval()
    losses.append(float(np.mean([float(evaluate(*held_out.batch(i))) for i in range(20)])))
    size = sum(p.size for p in model.parameters())
    print(f"{stage.name:30} {size:9,} parameters  loss {losses[-1]:.3f}  {perf_counter() - start:5.1f} s")

assert losses[-1] < losses[0], losses
assert SMALL or losses[-1] == min(losses), losses
