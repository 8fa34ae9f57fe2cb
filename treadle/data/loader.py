"""Batches from a data set in an order that depends on seed and epoch alone: a loader resumes from two numbers."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from treadle.core import CheckpointError, ConfigError, DataError

from .random import generator, permutation


class Dataset(Protocol):
    """Examples by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class ArrayDataset:
    """Arrays of equal length as a data set of rows: one array gives rows, several give tuples of rows."""

    def __init__(self, *arrays: Any) -> None:
        self.arrays = [np.asarray(array) for array in arrays]
        sizes = [array.shape[0] if array.ndim else None for array in self.arrays]
        if not sizes or None in sizes or len(set(sizes)) > 1:
            shapes = ", ".join(str(array.shape) for array in self.arrays) or "none"
            raise DataError(
                f"ArrayDataset: arrays of shapes {shapes} have no common first axis. Give at least one, of equal "
                "length."
            )

    def __len__(self) -> int:
        return self.arrays[0].shape[0]

    def __getitem__(self, index: Any) -> Any:
        rows = tuple(array[index] for array in self.arrays)
        return rows[0] if len(rows) == 1 else rows


def collate(examples: Sequence[Any]) -> Any:
    """Return examples joined along a new first axis; tuples, lists and dicts are joined part by part."""
    first = examples[0]
    if isinstance(first, tuple | list):
        return tuple(collate(part) for part in zip(*examples, strict=True))
    if hasattr(first, "keys"):
        return {key: collate([example[key] for example in examples]) for key in first}
    arrays = [np.asarray(example) for example in examples]
    if len({array.shape for array in arrays}) > 1:
        shapes = sorted({array.shape for array in arrays})
        raise DataError(
            f"DataLoader: examples of shapes {', '.join(map(str, shapes))} make no batch; shapes must be equal. Pad "
            "them in the data set, or give a collate_fn."
        )
    return np.stack(arrays)


class DataLoader:
    """Iterates over batches of a data set; one `for` loop is one epoch.

    `state_dict()` is (epoch, batch): loaded into a new loader it goes on with the batch that would have come next.

    Args:
        dataset: examples by number.
        batch_size: examples in a batch.
        shuffle: visit them in another order each epoch, a function of seed and epoch.
        seed: of the order.
        drop_last: leave out a last batch that is not full (a compiled step would be compiled again for its shape).
        collate_fn: joins a list of examples into a batch.
        transform: changes a batch, given it and a generator that depends on seed, epoch and batch alone.
        prefetch: batches prepared ahead in a background thread; 0 prepares them where they are asked for.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        collate_fn: Callable[[Sequence[Any]], Any] | None = None,
        transform: Callable[[Any, np.random.Generator], Any] | None = None,
        prefetch: int = 0,
    ) -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise ConfigError(
                f"DataLoader: a {type(dataset).__name__} is no data set: it needs len() and [number]. Give a list, an "
                "ArrayDataset, or a class with __len__ and __getitem__."
            )
        if batch_size < 1:
            raise ConfigError(f"DataLoader: batch_size is {batch_size}. It must be at least 1.")
        if prefetch < 0:
            raise ConfigError(f"DataLoader: prefetch is {prefetch}. It must be 0 (no thread) or more.")
        if len(dataset) == 0:
            raise DataError("DataLoader: the data set is empty. Give one with at least one example.")
        if drop_last and len(dataset) < batch_size:
            raise DataError(
                f"DataLoader: {len(dataset)} examples make no full batch of {batch_size}, and drop_last leaves out "
                "the rest. "
                "Use a smaller batch_size."
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.collate_fn = collate_fn
        self.transform = transform
        self.prefetch = prefetch
        self.epoch = 0
        self.position = 0  # batches of this epoch that were handed out

    def __len__(self) -> int:
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        epoch, order = self.epoch, self._order(self.epoch)
        batches = (self._transformed(order, epoch, number) for number in range(self.position, len(self)))
        for batch in _ahead(batches, self.prefetch) if self.prefetch else batches:
            # Counted before it is handed out: a state taken inside the loop's body goes on after this batch.
            self.position += 1
            if self.position == len(self):
                self.epoch, self.position = epoch + 1, 0
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return where the loader stands."""
        return {"epoch": self.epoch, "position": self.position, "seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from where `state_dict` was taken."""
        if set(state) != {"epoch", "position", "seed"}:
            raise CheckpointError(f"DataLoader: a state has epoch, position and seed, given {sorted(state)}.")
        if state["seed"] != self.seed or not 0 <= state["position"] < len(self):
            raise CheckpointError(
                f"DataLoader: the state {state} is of another loader; this one has seed {self.seed} and {len(self)} "
                "batches. "
                "Make the loader as it was when the state was taken."
            )
        self.epoch, self.position = state["epoch"], state["position"]

    def _order(self, epoch: int) -> Sequence[int] | np.ndarray[Any, Any]:
        return permutation(self.seed, epoch, len(self.dataset)) if self.shuffle else range(len(self.dataset))

    def _transformed(self, order: Sequence[int] | np.ndarray[Any, Any], epoch: int, number: int) -> Any:
        batch = self._batch(order, number)
        return batch if self.transform is None else self.transform(batch, generator(self.seed, epoch, number))

    def _batch(self, order: Sequence[int] | np.ndarray[Any, Any], number: int) -> Any:
        chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
        if self.collate_fn is None and isinstance(self.dataset, ArrayDataset):
            # Rows of arrays are taken in one go, without an object per example.
            return self.dataset[slice(chosen.start, chosen.stop) if isinstance(chosen, range) else chosen]
        return (self.collate_fn or collate)([self.dataset[int(i)] for i in chosen])


def _ahead(batches: Iterator[Any], count: int) -> Iterator[Any]:
    """Yield from `batches`, made up to `count` ahead in a thread; an error there is raised here, in its place."""
    ready: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=count)
    stop = threading.Event()

    def put(item: tuple[bool, Any]) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for batch in batches:
                if not put((True, batch)):
                    return
        except BaseException as error:
            put((False, error))
        else:
            put((False, None))

    thread = threading.Thread(target=work, name="treadle-data", daemon=True)
    thread.start()
    try:
        while True:
            more, value = ready.get()
            if more:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        stop.set()
        thread.join()


class Subset:
    """Some examples of a data set, by number."""

    def __init__(self, dataset: Dataset, indices: Sequence[int] | np.ndarray[Any, Any]) -> None:
        self.dataset, self.indices = dataset, np.asarray(indices, np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]


def random_split(dataset: Dataset, parts: Sequence[float], *, seed: int = 0) -> list[Any]:
    """Return disjoint random parts of a data set, all examples together; the same ones for the same seed.

    Args:
        dataset: examples by number; parts of an `ArrayDataset` are again such.
        parts: shares that add up to 1, or numbers of examples that add up to all.
        seed: of the order.
    """
    count, total = len(dataset), sum(parts)
    if abs(total - 1) < 1e-9 and any(part != int(part) for part in parts):
        edges = [round(sum(parts[: k + 1]) * count) for k in range(len(parts))]
    elif total == count:
        edges = [int(sum(parts[: k + 1])) for k in range(len(parts))]
    else:
        raise ConfigError(
            f"random_split: parts {list(parts)} add up to {total}. They must add up to 1, or to all {count} examples."
        )
    order = permutation(seed, 0, count)
    chosen = [order[a:b] for a, b in zip([0, *edges], edges, strict=False)]
    if isinstance(dataset, ArrayDataset):
        return [ArrayDataset(*[array[c] for array in dataset.arrays]) for c in chosen]
    return [Subset(dataset, c) for c in chosen]
