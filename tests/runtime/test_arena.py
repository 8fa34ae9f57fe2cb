import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.runtime.arena import ALIGNMENT, Arena, Block, aligned, plan_arena


def check(arena: Arena) -> None:
    """No two blocks that are alive at once overlap, nothing sticks out, offsets are aligned."""
    blocks = [block for block in arena.blocks if block.nbytes]
    for k, block in enumerate(blocks):
        at = arena.offsets[block.name]
        assert at % ALIGNMENT == 0
        assert 0 <= at <= arena.peak - block.nbytes
        for other in blocks[:k]:
            if block.first <= other.last and other.first <= block.last:
                there = arena.offsets[other.name]
                assert at + block.nbytes <= there or there + other.nbytes <= at, (block, other)
    assert arena.peak >= arena.lower_bound


lives = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 30), st.integers(0, 12)), max_size=40)


@given(lives)
def test_blocks_alive_at_once_never_overlap(found: list[tuple[int, int, int]]) -> None:
    blocks = [Block(f"b{k}", nbytes, first, first + length) for k, (nbytes, first, length) in enumerate(found)]
    arena = plan_arena(blocks)
    check(arena)
    assert arena == plan_arena(blocks)
    live = sum(aligned(b.nbytes) for b in blocks if b.first <= arena.peak_kernel <= b.last)
    assert live == arena.lower_bound
    assert set(arena.live_at_peak) == {b.name for b in blocks if b.nbytes and b.first <= arena.peak_kernel <= b.last}


def test_memory_is_reused_once_its_owner_is_dead() -> None:
    arena = plan_arena([Block("a", 1000, 0, 1), Block("b", 1000, 1, 2), Block("c", 1000, 2, 3), Block("d", 1000, 3, 3)])
    assert arena.peak == arena.lower_bound == 2048
    assert arena.offsets["a"] == arena.offsets["c"]


def test_nothing_needs_nothing() -> None:
    assert plan_arena([]).peak == 0
    assert plan_arena([Block("empty", 0, 0, 3)]).peak == 0
    assert plan_arena([]).efficiency == 1.0


def test_a_trap_for_greedy_orders_is_solved() -> None:
    # By size first the two large blocks take the bottom and the long thin one must go above both.
    blocks = [Block("big1", 640, 0, 1), Block("thin", 64, 0, 5), Block("big2", 704, 4, 5), Block("mid", 320, 1, 3)]
    arena = plan_arena(blocks)
    check(arena)
    assert arena.peak <= 1.1 * arena.lower_bound


def transformer(num_layers: int, train: bool, rng: random.Random) -> list[Block]:
    """Lifetimes of a forward (and backward) pass: saved activations die in reverse order, gradients live briefly."""
    unit = 4 * 128 * 256 * 4
    layer = [("norm", 1, 1), ("qkv", 3, 1), ("attend", 1, 1), ("project", 1, 0), ("residual", 1, 1), ("norm2", 1, 1)]
    layer += [("up", 4, 1), ("act", 4, 1), ("down", 1, 0), ("residual2", 1, 1)]
    blocks: list[Block] = []
    saved: list[tuple[str, int, int]] = []
    kernel = 0
    for number in range(num_layers):
        for name, units, keep in layer:
            if keep and train:
                saved.append((f"{name}{number}", units, kernel))
            else:
                blocks.append(Block(f"{name}{number}", unit * units, kernel, kernel + rng.choice([1, 1, 2])))
            kernel += 1
    for name, units, made in reversed(saved):
        blocks.append(Block(name, unit * units, made, kernel))
        blocks.append(Block(f"d_{name}", unit * units, kernel, kernel + rng.choice([1, 1, 2, 3])))
        if rng.random() < 0.3:
            blocks.append(Block(f"dw_{name}", unit * rng.choice([1, 2, 5]), kernel, kernel + rng.choice([1, 200])))
        kernel += 1
    return blocks


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_lifetimes_of_a_transformer_fit_the_lower_bound(train: bool, seed: int) -> None:
    arena = plan_arena(transformer(12, train, random.Random(seed)))
    check(arena)
    assert arena.efficiency >= 0.99, f"{arena.peak} for {arena.lower_bound}"


def random_blocks(num: int, rng: random.Random) -> list[Block]:
    found: list[Block] = []
    for k in range(num):
        first = rng.randrange(num)
        found.append(Block(str(k), int(2 ** rng.uniform(6, 22)), first, first + int(rng.expovariate(1 / 20))))
    return found


def test_random_lifetimes_come_near_the_lower_bound() -> None:
    # The bound itself cannot always be reached: one of these stays 9 % above it under every search tried.
    arenas = [plan_arena(random_blocks(300, random.Random(seed))) for seed in range(8)]
    for arena in arenas:
        check(arena)
    found = [arena.efficiency for arena in arenas]
    assert min(found) >= 0.9, found
    assert sum(found) / len(found) >= 0.98, found


@pytest.mark.slow  # it measures time
def test_thousands_of_blocks_are_placed_in_reasonable_time() -> None:
    blocks = random_blocks(2000, random.Random(3))
    start = time.thread_time()
    plan_arena(blocks)
    assert time.thread_time() - start < 5.0


def test_the_text_names_what_holds_the_peak() -> None:
    text = str(plan_arena([Block("weights", 1000, 0, 9), Block("hidden", 3000, 2, 3), Block("late", 100, 5, 6)]))
    assert text.splitlines()[0] == (
        "arena: 4,032 bytes for 3 blocks of 4,160 bytes; lower bound 4,032 (100.0%) at kernel 2"
    )
    assert "hidden: 3,000 bytes, kernels 2 to 3, offset 0" in text
    assert "late" not in text
