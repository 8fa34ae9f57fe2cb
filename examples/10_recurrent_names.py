"""Two classics of recurrent nets: a model of names that invents new ones, and a tagger that reads both ways.

The names are the words of Unicode's character names, from ALPHA to SHALSHELET: letters, signs and scripts of some forty
languages. Python's `unicodedata` carries version 3.2, the same in every release, so there is nothing to download. The
tagger colours Python's own source as an editor does: that `is` begins `isinstance`, and that `isinstance` is called, is
told only by what comes after.
"""

import os
import sys
from collections import Counter
from io import StringIO
from itertools import pairwise
from keyword import iskeyword
from time import perf_counter
from tokenize import COMMENT, NAME, NUMBER, OP, STRING, generate_tokens, tok_name
from tokenize import open as open_source
from unicodedata import ucd_3_2_0

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

import treadle as td
from treadle import data, nn, optim
from treadle.nn import functional as F

SMALL = os.environ.get("TREADLE_EXAMPLE") == "small"
STEPS = (120, 100) if SMALL else (700, 2000)  # of names, of tags
LINES = 2000 if SMALL else 30_000
IGNORED = -100  # the target of padding: it counts for nothing
console = Console()


def padded(rows, fill):
    """Return rows of different lengths as one array, with `fill` behind the shorter ones."""
    array = np.full((len(rows), max(map(len, rows))), fill)
    for k, row in enumerate(rows):
        array[k, : len(row)] = row
    return array


def fit(model, arrays, *, steps, rate, batch):
    """Lower `model.loss` of rows of the arrays; return the milliseconds of a step."""
    opt = optim.AdamW(model.parameters(), lr=optim.cosine(rate, rate / 50, steps))

    @td.compile
    def step(*batch):
        loss = model.loss(*batch)
        opt.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        return loss

    for i in range(steps):
        rows = data.positions(0, i, batch, len(arrays[0]))
        step(*(array[rows] for array in arrays))
        if i == 0:
            start = perf_counter()  # the first step compiles
    model.eval()
    return (perf_counter() - start) / (steps - 1) * 1e3


def counted(model):
    """Return how many parameters a model has, for a table."""
    return f"{sum(p.size for p in model.parameters()):,}"


def table_of(title, *headings):
    """Return an empty table whose first column holds names, and the others numbers."""
    table = Table(headings[0], title=title)
    for heading in headings[1:]:
        table.add_column(heading, justify="right")
    return table


# --- names, letter by letter

LETTERS = " ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # the space begins and ends a name
LONGEST = 12


class NameModel(nn.Module):
    """The logits of the next letter, given those before."""

    def __init__(self, layer, width):
        super().__init__()
        self.embed = nn.Embedding(len(LETTERS), 32)
        self.layer = layer(32, width, batch_first=True)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(width, len(LETTERS))

    def forward(self, letters, state=None):
        hidden, state = self.layer(self.embed(letters), state)
        return self.head(self.drop(hidden)), state

    def loss(self, letters, following):
        logits, _ = self(letters)
        return F.cross_entropy(logits.reshape(-1, len(LETTERS)), following.reshape(-1), ignore_index=IGNORED)

    def write(self, count):
        """Return drawn names [LONGEST + 1, count]: each turn of the loop draws a letter for each and reads it."""

        def turn(carry, _):
            logits, state = carry
            letters = td.random.categorical(logits[:, -1])
            return self(letters[:, None], state), letters

        return td.scan(turn, self(td.zeros((count, 1), dtype=td.int64)), length=LONGEST + 1)[1]


def unicode_words():
    """Return the words in the names of Unicode's characters, without syllables that are numbered through."""
    names = (ucd_3_2_0.name(chr(code), "") for code in range(sys.maxunicode + 1))
    words = {word for name in names if not name.startswith(("CJK", "HANGUL SYL", "YI ")) for word in name.split()}
    return sorted(word for word in words if word.isalpha() and 4 <= len(word) <= LONGEST)


def count_loss(train, test, size):
    """Return the nats per letter of p(c | h) = (n(hc) + 5 p(c | h[1:])) / (n(h) + 5), h being `size` letters."""
    seen, followed = Counter(), Counter()
    for name in train:
        text = " " * size + name + " "
        for end in range(size, len(text)):
            for context in (text[k:end] for k in range(end - size, end + 1)):
                seen[context] += 1
                followed[context, text[end]] += 1

    def probability(context, letter):
        shorter = probability(context[1:], letter) if context else 1 / len(LETTERS)
        return (followed[context, letter] + 5 * shorter) / (seen[context] + 5)

    texts = [" " * size + name + " " for name in test]
    return -np.mean([np.log(probability(t[k - size : k], t[k])) for t in texts for k in range(size, len(t))])


words = unicode_words()
words = [words[k] for k in data.permutation(0, 0, len(words))]
cut = len(words) * 9 // 10
codes = [[LETTERS.index(letter) for letter in word] for word in words]
letters, following = padded([[0, *code] for code in codes], 0), padded([[*code, 0] for code in codes], IGNORED)

table = table_of("names: nats per letter", "model", "parameters", "train", "held out", "ms a step", "new")
losses = {f"the last {size} counted": count_loss(words[:cut], words[cut:], size) for size in range(1, 5)}
for name, loss in losses.items():
    table.add_row(name, "", "", f"{loss:.3f}")
shares = []
for layer in (nn.LSTM, nn.GRU):
    td.manual_seed(0)
    model = NameModel(layer, 64 if SMALL else 96)
    arrays = letters[:cut], following[:cut]
    step_ms = fit(model, arrays, steps=STEPS[0], rate=1e-2 if SMALL else 5e-3, batch=64)
    evaluate, write = td.compile(model.loss), td.compile(lambda model=model: model.write(500))
    with td.no_grad():
        train, held_out = (float(evaluate(letters[part], following[part])) for part in (slice(cut), slice(cut, None)))
        drawn = ["".join(LETTERS[k] for k in column).partition(" ") for column in write().numpy().T]
    names = [name for name, ended, _ in drawn if ended and name]
    losses[layer.__name__] = held_out
    shares.append(sum(name not in words for name in names) / len(drawn))
    numbers = f"{train:.3f}", f"{held_out:.3f}", f"{step_ms:.1f}", f"{shares[-1]:.0%}"
    table.add_row(layer.__name__, counted(model), *numbers)
    console.print(f"{layer.__name__}:", ", ".join(name.capitalize() for name in names[:12]))
console.print(table)
best = min(loss for name, loss in losses.items() if "counted" in name)
assert max(losses["LSTM"], losses["GRU"]) < best - (0.0 if SMALL else 0.1), losses
assert min(shares) > 0.8, shares


# --- tags, character by character

KINDS = " kfn9s#+"  # space, keyword, function, other name, number, string, comment, operator


def kind_of(token, after):
    """Return the tag of a token; `after` is the next one."""
    if token.type == NAME:
        return "k" if iskeyword(token.string) else "f" if after.string == "(" else "n"
    return {NUMBER: "9", STRING: "s", COMMENT: "#", OP: "+"}.get(token.type, " ")


def tagged_lines(path):
    """Return {line: its tags} of a file, without lines inside longer strings and strings that hold code."""
    with open_source(path) as file:
        text = file.read() + "\n"
    tags = [[" "] * len(line) for line in text.split("\n")]
    torn = set()
    for token, after in pairwise(generate_tokens(StringIO(text).readline)):
        (first, start), (last, end) = token.start, token.end
        if first != last or "STRING_" in tok_name[token.type]:
            torn.update(range(first, last + 1))
        else:
            tags[first - 1][start:end] = kind_of(token, after) * (end - start)
    lines = [(line, "".join(marks)) for line, marks in zip(text.split("\n"), tags, strict=True)]
    return {line.lstrip(): marks[-len(line.lstrip()) :] for k, (line, marks) in enumerate(lines, 1) if k not in torn}


class Tagger(nn.Module):
    """The logits of every character's tag."""

    def __init__(self, width, bidirectional):
        super().__init__()
        self.embed = nn.Embedding(128, 32)
        self.layer = nn.LSTM(32, width, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(width * self.layer.num_directions, len(KINDS))

    def forward(self, characters, lengths):
        # Behind a line's end the state stays as it is, so the way back begins at the last character, not in padding.
        return self.head(self.layer(self.embed(characters), lengths=lengths)[0])

    def loss(self, characters, lengths, tags):
        logits = self(characters, lengths)
        return F.cross_entropy(logits.reshape(-1, len(KINDS)), tags.reshape(-1), ignore_index=IGNORED)


tags_of = {}
for path in data.standard_library():
    tags_of |= {line: tags for line, tags in tagged_lines(path).items() if line.isascii() and 8 <= len(line) <= 64}
    if len(tags_of) > LINES:
        break
lines = list(tags_of)
lines = [lines[k] for k in data.permutation(1, 0, len(lines))]
cut = len(lines) * 9 // 10
characters, lengths = padded([list(line.encode()) for line in lines], 0), np.array([len(line) for line in lines])
tags = padded([[KINDS.index(kind) for kind in tags_of[line]] for line in lines], IGNORED)

in_word = np.isin(tags, [KINDS.index(kind) for kind in "kfn"])
first = in_word & (tags != np.pad(tags[:, :-1], ((0, 0), (1, 0)), constant_values=IGNORED))
last = in_word & (tags != np.pad(tags[:, 1:], ((0, 0), (0, 1)), constant_values=IGNORED))

table = table_of("tags: share right", "model", "parameters", "all", "first letters", "last letters", "ms a step")
found, right = {}, {}
for name, width, bidirectional in (("one way", 96, False), ("both ways", 64, True)):
    td.manual_seed(0)
    model = Tagger(width, bidirectional)
    step_ms = fit(model, (characters[:cut], lengths[:cut], tags[:cut]), steps=STEPS[1], rate=5e-3, batch=32)
    with td.no_grad():
        logits = td.compile(model)(characters[cut:], lengths[cut:]).numpy()
        alone = model(td.asarray(characters[cut:][:1, : lengths[cut]]), lengths[cut:][:1]).numpy()
    np.testing.assert_allclose(alone[0], logits[0, : lengths[cut]], rtol=1e-3, atol=1e-3)  # padding changes nothing
    found[name] = logits.argmax(-1)
    hits = found[name] == tags[cut:]
    right[name] = [float(hits[where[cut:]].mean()) for where in (tags != IGNORED, first, last)]
    table.add_row(name, counted(model), *(f"{share:.1%}" for share in right[name]), f"{step_ms:.1f}")

for k, line in enumerate(lines[cut : cut + 5]):
    console.print(Text(f"{'':10}{line}"))
    for name, kinds in found.items():
        console.print(Text(f"{name:10}{''.join(KINDS[kind] for kind in kinds[k, : len(line)])}"))
console.print(table)
# Before a word's end one direction can but guess; the other one has seen it.
assert right["both ways"][1] > right["one way"][1] + (0.05 if SMALL else 0.1), right
assert right["both ways"][0] > (0.8 if SMALL else 0.98), right
