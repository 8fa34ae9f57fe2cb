"""Whole stories, small: networks learn what they must be able to learn, with the same bits for any threads."""

import numpy as np

import treadle as td
import treadle.nn.functional as F
from treadle import config, nn, optim

PAGE = (
    "The loom stood in the window where the light was best. Each morning she pressed the treadle, and the warp "
    "rose and fell, and the shuttle flew from hand to hand; by evening there was a little more cloth than there had "
    "been, and it was good cloth, close and even, that would keep out the wind. "
)


def test_a_small_network_learns_xor() -> None:
    td.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    x = td.asarray([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = td.asarray([[0.0], [1.0], [1.0], [0.0]])

    @td.compile
    def step() -> td.Tensor:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    losses = [float(step()) for _ in range(200)]
    assert losses[-1] < 1e-2 < losses[0]
    assert (model(x).numpy() > 0.5).ravel().tolist() == [False, True, True, False]
    assert step.num_compiles == 1


def digits(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Seven-segment digits with noise."""
    segments = [0b1110111, 0b0010010, 0b1011101, 0b1011011, 0b0111010, 0b1101011, 0b1101111, 0b1010010, 0x7F, 0x7B]
    labels = rng.integers(0, 10, count)
    clean = np.array([[float(s >> b & 1) for b in range(7)] for s in segments])[labels]
    return (np.repeat(clean, 3, axis=1) + rng.normal(0, 0.4, (count, 21))).astype(np.float32), labels


def learn_digits(threads: int) -> tuple[float, bytes]:
    """Train for a while; return the accuracy on new digits, and the bits of a weight."""
    with config(threads=threads):
        td.manual_seed(0)
        rng = np.random.default_rng(0)
        model = nn.Sequential(nn.Linear(21, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 10))
        optimizer = optim.AdamW(model.parameters(), lr=1e-2)

        @td.compile
        def step(x: object, labels: object) -> td.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            return loss

        for _ in range(80):
            step(*digits(64, rng))
        x, labels = digits(500, rng)
        predicted = td.argmax(model(td.asarray(x)), axis=1).numpy()
        return float((predicted == labels).mean()), model[0].weight.numpy().tobytes()


def test_digits_are_learned_with_the_same_bits_for_every_number_of_threads() -> None:
    (accuracy, bits), (_, other) = learn_digits(1), learn_digits(2)
    assert accuracy > 0.9
    assert bits == other


def test_a_tiny_gpt_learns_a_page_by_heart() -> None:
    letters = sorted(set(PAGE))
    ids = np.array([letters.index(c) for c in PAGE])
    context = 32
    with config(threads=1):
        td.manual_seed(0)
        model = nn.GPT(nn.GPTConfig(vocab_size=len(letters), context=context, layers=2, heads=2, width=48))
        optimizer = optim.AdamW(model.parameters(), lr=5e-3)

        @td.compile
        def step(x: object, y: object) -> td.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x).reshape((-1, len(letters))), td.reshape(y, (-1,)))
            loss.backward()
            optimizer.step()
            return loss

        rng = np.random.default_rng(0)
        for _ in range(250):
            starts = rng.integers(0, len(ids) - context, 24)
            rows = np.stack([ids[s : s + context + 1] for s in starts])
            loss = float(step(rows[:, :-1], rows[:, 1:]))
        assert loss < 0.5  # the first letters of a window could be anywhere
        assert step.num_compiles == 1
        model.eval()
        text = PAGE[:context]
        for _ in range(40):
            logits = model(td.asarray([[letters.index(c) for c in text[-context:]]]))
            text += letters[int(td.argmax(logits[0, -1]))]
        assert text == PAGE[: len(text)]
