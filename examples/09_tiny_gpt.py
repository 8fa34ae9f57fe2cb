"""A GPT that learns a page of text by heart and writes it down again."""

import os
from time import perf_counter

import treadle as td
from treadle import data, nn, optim

SMALL = os.environ.get("TREADLE_EXAMPLE") == "small"
STEPS = 150 if SMALL else 600

TEXT = """
A treadle is a lever that is worked by the foot to turn a machine. On a loom it lifts some of the warp threads, so that
the shuttle with the weft can pass under them; the next treadle lifts others. The weaver sees every part that moves.
"""

vocabulary = data.CharVocabulary.of(TEXT)
windows = data.Windows(vocabulary.encode(TEXT), context=32, batch_size=8)

td.manual_seed(0)
model = nn.GPT(nn.GPTConfig(vocab_size=vocabulary.size, context=32, layers=2, heads=2, width=48))
opt = optim.AdamW(model.parameters(), lr=optim.warmup(20, optim.cosine(6e-3, 6e-4, STEPS)))


@td.compile
def step(x, y):
    loss = model.loss(x, y)
    opt.zero_grad()
    loss.backward()
    optim.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    return loss


start = perf_counter()
for i in range(STEPS):
    loss = step(*windows.batch(i))
    if i % (STEPS // 5) == 0 or i == STEPS - 1:
        print(f"step {i:4}  loss {float(loss):.3f}  {perf_counter() - start:.1f} s")

prompt = "A treadle is "
written = vocabulary.decode(nn.generate(model, vocabulary.encode(prompt).tolist(), 100, temperature=0))
print(prompt + written)
assert float(loss) < (1.5 if SMALL else 0.3), float(loss)
assert SMALL or written.startswith("a lever that is worked by the foot"), written
