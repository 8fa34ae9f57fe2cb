"""How attention came about, told by one task: write a row of letters backwards, short rows and long ones.

Six models learn it from the same examples. A recurrent net that hands over one vector forgets long rows; one whose
writer looks back at the reader's states (Bahdanau, Luong) does not; then the recurrence goes, and attention is all
that is left: an encoder that answers at all places at once, the Transformer, and GPT, which has a decoder only.
Shape suffixes: B rows, S letters read, T letters written, C width.
"""

import os
from importlib.util import find_spec
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import treadle as td
from treadle import data, nn, optim
from treadle.inspect import plot_attention
from treadle.nn import functional as F

SMALL = os.environ.get("TREADLE_EXAMPLE") == "small"
LONGEST, WIDTH, LAYERS, STEPS = (5, 32, 1, 500) if SMALL else (16, 64, 2, 2000)
LENGTHS = [2, 5] if SMALL else [4, 8, 12, 16]
PLACES = LONGEST + 1  # the last one is for the end
BATCH, RATE = 64, 5e-3 if SMALL else 2e-3
END, SYMBOLS = 0, 27
PICTURE = "history_of_attention.png"
console = Console()


def examples(counter, count, length=None):
    """Return rows of letters [B, S] of any length or of one, END behind them, and what is to be written [B, T]."""
    rng = data.random.generator(0, counter, 0)
    lengths = rng.integers(1, LONGEST + 1, (count, 1)) if length is None else np.full((count, 1), length)
    places = np.arange(PLACES)
    source = np.where(places < lengths, rng.integers(1, SYMBOLS, (count, PLACES)), END)
    backwards = np.take_along_axis(source, (lengths - 1 - places) % PLACES, axis=1)
    return source, np.where(places < lengths, backwards, END)


def shifted(target):
    """Return what a writer has before it at each place: the symbols so far, END at the start."""
    return td.concat((td.full_like(target[:, :1], END), target[:, :-1]), axis=1)


class FixedVector(nn.Module):
    """A GRU reads, a GRU writes, and all the writer knows is the reader's last state (Sutskever 2014, Cho 2014)."""

    def __init__(self, context=0):
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, WIDTH)
        self.reader = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.writer = nn.GRUCell(WIDTH + context, WIDTH)
        self.head = nn.Linear(WIDTH, SYMBOLS)

    def read(self, source_BS):
        seen_BS = source_BS != END
        states_BSC, last = self.reader(self.embed(source_BS), lengths=td.sum(seen_BS, axis=1))
        return last[0], (states_BSC, seen_BS)

    def turn(self, symbol, state, memory):
        """Return the logits of the next symbol, the writer's next state, and what it looked at, [B, S]."""
        state = self.writer(self.embed(symbol), state)
        return self.head(state), state, None

    def forward(self, source_BS, previous_BT):
        """Return logits, given the symbols before each place."""
        state, memory = self.read(source_BS)

        def turn(state, symbol):
            logits, state, _ = self.turn(symbol, state, memory)
            return state, logits

        return td.scan(turn, state, previous_BT.mT)[1].permute(1, 0, 2)

    def answer(self, source_BS):
        """Return the likeliest symbols, each read again for the next, and where the writer looked [B, T, S]."""
        state, memory = self.read(source_BS)

        def turn(carry, _):
            logits, state, weights = self.turn(*carry, memory)
            symbol = td.argmax(logits, axis=-1)
            return (symbol, state), (symbol, weights)

        start = td.full_like(source_BS[:, 0], END)
        _, (symbols, weights) = td.scan(turn, (start, state), length=PLACES)
        return symbols.mT, None if weights is None else weights.permute(1, 0, 2)


class Bahdanau(FixedVector):
    """The state so far asks, by a small net; what it finds goes into the next state (2015, arXiv:1409.0473)."""

    def __init__(self):
        super().__init__(context=WIDTH)
        self.attention = nn.AdditiveAttention(WIDTH, WIDTH, WIDTH)

    def turn(self, symbol, state, memory):
        context, weights = self.attention(state, memory[0], mask=memory[1])
        state = self.writer(td.concat((self.embed(symbol), context), axis=-1), state)
        return self.head(state), state, weights


class Luong(FixedVector):
    """The new state asks, by a product; what it finds goes into the output (2015, arXiv:1508.04025)."""

    def __init__(self):
        super().__init__()
        self.attention = nn.LuongAttention(WIDTH)
        self.joined = nn.Linear(2 * WIDTH, WIDTH)

    def turn(self, symbol, state, memory):
        state = self.writer(self.embed(symbol), state)
        context, weights = self.attention(state, memory[0], mask=memory[1])
        return self.head(td.tanh(self.joined(td.concat((context, state), axis=-1)))), state, weights


class Parallel(nn.Module):
    """What the models without recurrence share: logits of all places at once, given the symbols before each."""

    attention = None  # the one to be drawn
    turns = PLACES

    def answer(self, source_BS):
        """Return the likeliest symbols, and where the last attention looked [B, T, S] if it can be asked."""

        # A place depends on those before it alone, so each turn settles one more.
        def turn(previous, _):
            return shifted(td.argmax(self(source_BS, previous), axis=-1)), None

        previous, _ = td.scan(turn, td.full_like(source_BS, END), length=self.turns - 1)
        weights = []
        if self.attention is not None:
            # Its fast form never holds the weights; the hook asks the module again, with those wanted.
            hook = self.attention.register_forward_hook(lambda m, given, _: weights.append(m.forward(*given[:4])[1]))
        symbols = td.argmax(self(source_BS, previous), axis=-1)
        if weights:
            hook.remove()
        return symbols, weights[0] if weights else None


class SelfAttention(Parallel):
    """Every place looks at all others and says its own letter: no order, no writer (Lin et al. 2017, Vaswani 2017)."""

    turns = 1

    def __init__(self):
        super().__init__()
        self.placed = nn.Sequential(nn.Embedding(SYMBOLS, WIDTH), nn.SinusoidalPositions(PLACES, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 4 * WIDTH, 0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH))
        self.head = nn.Linear(WIDTH, SYMBOLS)

    @property
    def attention(self):
        return self.encoder.layers[-1].self_attn

    def forward(self, source_BS, previous_BT):
        return self.head(self.encoder(self.placed(source_BS)))


class Transformer(Parallel):
    """Attention within what is read, within what is written, and from one to the other (2017, arXiv:1706.03762)."""

    def __init__(self):
        super().__init__()
        self.placed = nn.Sequential(nn.Embedding(SYMBOLS, WIDTH), nn.SinusoidalPositions(PLACES, WIDTH))
        self.model = nn.Transformer(WIDTH, 2, LAYERS, LAYERS, 4 * WIDTH, 0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(WIDTH, SYMBOLS)

    @property
    def attention(self):
        return self.model.decoder.layers[-1].multihead_attn

    def forward(self, source_BS, previous_BT):
        return self.head(self.model(self.placed(source_BS), self.placed(previous_BT), tgt_is_causal=True))


class GPT(Parallel):
    """What is read and what is written as one row, each place looking back (Radford et al. 2018)."""

    def __init__(self):
        super().__init__()
        self.gpt = nn.GPT(nn.GPTConfig(SYMBOLS, context=2 * PLACES, layers=LAYERS, heads=2, width=WIDTH))

    def forward(self, source_BS, previous_BT):
        return self.gpt(td.concat((source_BS, previous_BT), axis=1))[:, PLACES:]


def trained(model):
    """Train on the same examples as every other model; return the milliseconds of a step."""
    name = type(model).__name__
    opt = optim.AdamW(model.parameters(), lr=optim.warmup(100, optim.cosine(RATE, RATE / 50, STEPS)))

    @td.compile
    def step(source_BS, target_BT):
        logits = model(source_BS, shifted(target_BT))
        loss = F.cross_entropy(logits.reshape(-1, SYMBOLS), target_BT.reshape(-1))
        opt.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        return loss

    step(*examples(0, BATCH))  # compiles
    start = perf_counter()
    for i in track(range(1, STEPS), name, console=console, transient=True, disable=not console.is_terminal):
        loss = step(*examples(i, BATCH))
    seconds = perf_counter() - start
    console.print(f"{name:13}  loss {float(loss):.4f} after {seconds:.0f} s")
    return seconds / (STEPS - 1) * 1e3


table = Table(title="rows without a fault, by their letters")
for heading in ("model", "size", *map(str, LENGTHS), "step ms", "row µs"):
    table.add_column(heading, justify="left" if heading == "model" else "right")
right, maps = {}, {}
for kind in (FixedVector, Bahdanau, Luong, SelfAttention, Transformer, GPT):
    name = kind.__name__
    td.manual_seed(0)
    model = kind()
    step_ms = trained(model)
    answer = td.compile(model.answer)
    right[name] = []
    with td.no_grad():
        for length in LENGTHS:
            source, target = examples(STEPS + length, 200, length)
            start = perf_counter()
            symbols, weights = answer(source)
            row_us = (perf_counter() - start) / len(source) * 1e6  # of the last one: the first compiles
            right[name].append(float((symbols.numpy() == target).all(axis=1).mean()))
    if weights is not None:
        maps[name] = weights.numpy()[:, :LONGEST, :LONGEST]  # of rows of LONGEST letters, END left out
    size = sum(p.size for p in model.parameters())
    table.add_row(name, f"{size:,}", *(f"{share:.0%}" for share in right[name]), f"{step_ms:.1f}", f"{row_us:.0f}")
console.print(table)

# The letter to be written at t of n stands at n - 1 - t: that is where attention is to look, give or take one place,
# as a reader's state knows its neighbours.
there = np.arange(LONGEST)[::-1]
aligned = {name: float((np.abs(weights.argmax(axis=-1) - there) <= 1).mean()) for name, weights in maps.items()}
console.print("looks where the letter stands:", ", ".join(f"{name} {share:.0%}" for name, share in aligned.items()))

if find_spec("matplotlib") is not None and not SMALL:
    letters = [chr(ord("a") - 1 + symbol) for symbol in source[0, :LONGEST]]
    pictures = np.stack([weights[0] for weights in maps.values()])
    plot_attention(pictures, letters, letters[::-1], PICTURE, title="where a written letter looks", titles=list(maps))
    console.print("picture:", PICTURE)

for name in ("Bahdanau", "Luong", "Transformer"):
    assert right[name][-1] > right["FixedVector"][-1] + (0.2 if SMALL else 0.8), right
    assert aligned[name] > (0.7 if SMALL else 0.95), aligned
if not SMALL:
    assert min(right["SelfAttention"][-1], right["GPT"][-1]) > 0.9, right
    assert right["FixedVector"][0] > 0.9, right
    assert right["FixedVector"][-1] < 0.1, right
