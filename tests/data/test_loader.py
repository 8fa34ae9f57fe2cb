"""The loader: order, resuming, the background thread and its errors."""

import threading
from typing import Any

import numpy as np
import pytest

from treadle.core import CheckpointError, ConfigError, DataError
from treadle.data import ArrayDataset, DataLoader, collate, permutation, positions


def test_random_positions_are_stable_and_even():
    # Written down once: a change of these numbers breaks the resuming of every existing run.
    assert positions(0, 0, 4, 1000).tolist() == positions(0, 0, 8, 1000)[:4].tolist()
    assert positions(1, 5, 4, 10**6).tolist() == GOLDEN
    counts = np.bincount(positions(0, 1, 60_000, 6), minlength=6)
    assert np.abs(counts - 10_000).max() < 400
    assert sorted(permutation(2, 3, 50).tolist()) == list(range(50))
    with pytest.raises(ConfigError, match=r"seed -1 and counter 0 must be whole numbers"):
        positions(-1, 0, 1, 1)


GOLDEN = [299381, 720533, 121070, 621538]


def test_collate_joins_tuples_and_dicts():
    x, y = collate([(np.zeros(2), 1), (np.ones(2), 2)])
    assert x.shape == (2, 2)
    assert y.tolist() == [1, 2]
    assert collate([{"a": 1}, {"a": 3}])["a"].tolist() == [1, 3]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_epoch_visits_every_example_once(prefetch: int):
    data = ArrayDataset(np.arange(10), np.arange(10) * 2)
    loader = DataLoader(data, 4, shuffle=True, seed=1, prefetch=prefetch)
    assert len(loader) == 3
    first = [x.tolist() for x, y in loader if (y == 2 * x).all()]
    assert sorted(i for batch in first for i in batch) == list(range(10))
    assert [len(b) for b in first] == [4, 4, 2]
    second = [x.tolist() for x, _ in loader]
    assert second != first
    assert [x.tolist() for x, _ in DataLoader(data, 4, shuffle=True, seed=1)] == first


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_a_loader_resumes_with_the_next_batch(prefetch: int, stop: int):
    def make() -> DataLoader:
        return DataLoader(ArrayDataset(np.arange(9)), 4, shuffle=True, seed=5, prefetch=prefetch)

    def run(loader: DataLoader, count: int) -> list[list[int]]:
        seen: list[list[int]] = []
        while len(seen) < count:
            for batch in loader:
                seen.append(batch.tolist())
                if len(seen) == count:
                    break
        return seen

    whole = run(make(), 8)
    loader = make()
    head = run(loader, stop)
    resumed = make()
    resumed.load_state_dict(loader.state_dict())
    assert head + run(resumed, 8 - stop) == whole


def test_drop_last_and_plain_datasets():
    class Squares:
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> tuple[int, int]:
            return index, index * index

    batches = list(DataLoader(Squares(), 2, drop_last=True))
    assert [x.tolist() for x, _ in batches] == [[0, 1], [2, 3]]
    assert batches[1][1].tolist() == [4, 9]
    joined = DataLoader(Squares(), 5, collate_fn=lambda examples: sum(b for _, b in examples))
    assert list(joined) == [30]


def test_an_error_in_the_thread_arrives_and_the_thread_ends():
    class Broken:
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            if index == 2:
                raise OSError("disk gone")
            return index

    before = threading.active_count()
    batches = iter(DataLoader(Broken(), 1, prefetch=2))
    assert [next(batches).tolist(), next(batches).tolist()] == [[0], [1]]
    with pytest.raises(OSError, match="disk gone"):
        next(batches)
    iterator = iter(DataLoader(ArrayDataset(np.arange(100)), 1, prefetch=2))
    next(iterator)
    del iterator
    assert threading.active_count() == before


def test_wrong_settings_are_refused():
    data = ArrayDataset(np.arange(3))
    with pytest.raises(ConfigError, match="batch_size is 0"):
        DataLoader(data, 0)
    with pytest.raises(ConfigError, match="prefetch is -1"):
        DataLoader(data, 1, prefetch=-1)
    with pytest.raises(DataError, match="the data set is empty"):
        DataLoader(ArrayDataset(np.zeros(0)), 1)
    with pytest.raises(DataError, match="3 examples make no full batch of 4"):
        DataLoader(data, 4, drop_last=True)
    with pytest.raises(DataError, match=r"shapes \(3,\), \(4,\) have no common first axis"):
        ArrayDataset(np.arange(3), np.arange(4))
    with pytest.raises(CheckpointError, match="is of another loader; this one has seed 0 and 3 batches"):
        DataLoader(data, 1).load_state_dict({"epoch": 0, "position": 0, "seed": 9})
    with pytest.raises(CheckpointError, match="a state has epoch, position and seed"):
        DataLoader(data, 1).load_state_dict({"epoch": 0})


def test_what_makes_no_batch_or_data_set_is_said():
    with pytest.raises(DataError, match=r"shapes \(1,\), \(2,\) make no batch"):
        collate([np.ones(1), np.ones(2)])
    with pytest.raises(DataError, match="give a collate_fn"):
        next(iter(DataLoader([np.ones(n + 1) for n in range(4)], batch_size=2)))
    with pytest.raises(ConfigError, match="a list_iterator is no data set: it needs len"):
        DataLoader(iter([1, 2]))  # pyright: ignore[reportArgumentType]
