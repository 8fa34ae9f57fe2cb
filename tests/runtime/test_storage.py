import gc
import os
import resource
import threading
from pathlib import Path

import numpy as np
import pytest

from treadle.core.dtypes import bfloat16
from treadle.core.errors import MemoryLimitError
from treadle.runtime import storage
from treadle.runtime.storage import Allocator, allocate, available_nbytes, size_class

MIB = 1 << 20


@pytest.mark.parametrize(
    "nbytes", [0, 1, 63, 64, 65, 1000, 4097, 70_000, 262_144, 262_145, 1 * MIB, 5 * MIB + 1, 16 * MIB, 17 * MIB]
)
def test_blocks_are_aligned_and_hold_what_was_asked(nbytes: int) -> None:
    block = allocate(nbytes)
    assert block.nbytes == nbytes
    assert block.address % (storage.HUGE_PAGE_NBYTES if nbytes > 16 * MIB else 64) == 0
    view = block.numpy()
    view[:] = 7
    assert view.shape == (nbytes,)
    assert view.sum(dtype=np.int64) == 7 * nbytes


def test_classes_waste_little_and_grow_with_the_request() -> None:
    sizes = [*range(0, 5000, 13), *range(5000, 3 * MIB, 7919), *range(3 * MIB, 200 * MIB, MIB + 77)]
    classes = [size_class(nbytes) for nbytes in sizes]
    assert classes == sorted(classes)
    for nbytes, size in zip(sizes, classes, strict=True):
        assert nbytes <= size <= max(64, nbytes * 1.25 + 64, nbytes + 2 * MIB if nbytes > 16 * MIB else 0)
        assert size % 64 == 0
        assert size_class(size) == size


def test_live_blocks_never_overlap() -> None:
    own = Allocator()
    rng = np.random.default_rng(0)
    blocks: dict[int, tuple[storage.Storage, int]] = {}
    for number in range(3000):
        block = own.allocate(int(rng.choice([1, 64, 100, 1000, 5000, 300_000])))
        block.numpy()[:] = number % 251
        blocks[number] = (block, number % 251)
        if len(blocks) > 40:
            kept, value = blocks.pop(int(rng.choice(list(blocks))))
            assert (kept.numpy() == value).all()
    assert all((block.numpy() == value).all() for block, value in blocks.values())


@pytest.mark.parametrize("nbytes", [64, 5000, 1 * MIB, 8 * MIB])
def test_a_freed_block_serves_the_next_request(nbytes: int) -> None:
    own = Allocator()
    block = own.allocate(nbytes)
    address = block.address
    del block
    assert own.allocate(nbytes).address == address


def test_a_repeated_step_maps_no_page() -> None:
    own = Allocator()
    own.allocate(32 * MIB).numpy()[:] = 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        own.allocate(32 * MIB).numpy()[:] = 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 64


def test_a_view_keeps_the_block() -> None:
    own = Allocator()
    block = own.allocate(4 * MIB)
    view = block.numpy(np.float32, (1024, 1024))
    part = view[3:5]
    part[:] = 2.5
    address = block.address
    del block, view
    gc.collect()
    assert own.allocate(4 * MIB).address != address
    assert part.sum() == 2.5 * 2048


def test_views_have_shape_type_and_offset() -> None:
    block = allocate(64)
    block.numpy(np.int64)[:] = range(8)
    assert block.numpy(np.int64, (2, 2), offset=16).tolist() == [[2, 3], [4, 5]]
    assert block.numpy(np.float64, ()).shape == ()
    assert block.numpy(np.bool_, (0, 3)).shape == (0, 3)
    half = block.numpy(bfloat16.numpy, (4,))
    half[:] = 1.5
    assert half.dtype == bfloat16.numpy
    assert block.numpy(np.uint16, (4,)).tolist() == [0x3FC0] * 4
    assert block.memory().nbytes == 64
    assert not block.memory().readonly


def test_the_address_of_an_array_is_numpys() -> None:
    block = allocate(4096)
    whole = block.numpy(np.float32, (4, 256))
    for array in (whole, whole[1:], whole[:, 3], whole.T, np.zeros(()), np.arange(5).astype("U3")):
        assert storage.address_of(array) == array.ctypes.data
    assert storage.address_of(whole) == block.address
    assert storage._DATA_FIELD, "the slow way is in use"


def test_views_export_dlpack() -> None:
    block = allocate(400)
    view = block.numpy(np.float32, (100,))
    view[:] = 3
    other = np.from_dlpack(view)
    assert other.sum() == 300
    assert other.ctypes.data == block.address


def test_the_cache_is_bounded_and_can_be_trimmed() -> None:
    own = Allocator(max_cached=10 * MIB)
    blocks = [own.allocate(4 * MIB) for _ in range(5)]
    assert own.use.in_use == 20 * MIB
    del blocks
    assert own.use.in_use == 0
    assert own.use.cached == 8 * MIB
    big = own.allocate(32 * MIB)
    del big
    assert own.use.cached == 8 * MIB
    assert own.use.peak == 32 * MIB
    own.trim()
    assert own.use.cached == 0


def test_the_pages_of_blocks_cut_from_a_region_are_given_back() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    own = Allocator()
    kept = own.allocate(1 * MIB)
    kept.numpy()[:] = 5
    blocks = [own.allocate(15 * MIB) for _ in range(10)]
    for block in blocks:
        block.numpy()[:] = 1
    addresses = {block.address for block in blocks}
    full = resident()
    del block, blocks
    own.trim()
    assert full - resident() > 140 * MIB
    assert (kept.numpy() == 5).all()
    assert own.allocate(15 * MIB).address in addresses


def test_small_blocks_are_counted() -> None:
    own = Allocator()
    blocks = [own.allocate(100) for _ in range(10)]
    assert own.use.in_use == 1280
    del blocks[3:]
    assert own.use == storage.MemoryUse(in_use=384, peak=1280, cached=896)


def test_more_than_the_machine_has_is_refused_with_the_figures() -> None:
    with pytest.raises(MemoryLimitError, match=r"allocate: 1,099,511,627,776 bytes asked, [\d,]+ bytes available"):
        allocate(1 << 40)
    with pytest.raises(MemoryError):
        allocate(1 << 62)
    with pytest.raises(ValueError, match="-1 bytes is not a size"):
        allocate(-1)


def test_memory_promised_but_not_touched_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Allocator()
    room = 512 * MIB
    monkeypatch.setattr(storage, "available_nbytes", lambda: room)
    # What this process already holds hides as much of what is promised.
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    held = [own.allocate(128 * MIB) for _ in range(-(-resident // (128 * MIB)) + 3)]
    with pytest.raises(MemoryLimitError, match="asked"):
        own.allocate(room - 64 * MIB)
    del held
    assert own.allocate(room - 64 * MIB).nbytes == room - 64 * MIB


def test_the_cache_is_given_up_before_a_request_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Allocator()
    own.allocate(256 * MIB).numpy()[::4096] = 1
    assert own.use.cached == 256 * MIB
    monkeypatch.setattr(storage, "available_nbytes", lambda: 300 * MIB if own._cached_nbytes else 600 * MIB)
    block = own.allocate(512 * MIB)
    assert block.nbytes == 512 * MIB
    assert own.use.cached == 0


def test_a_control_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = tmp_path / "box" / "inner"
    group.mkdir(parents=True)
    for folder, limit, used in ((group, "max", 5), (group.parent, str(100 * MIB), 60 * MIB)):
        (folder / "memory.max").write_text(limit)
        (folder / "memory.current").write_text(str(used))
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {10 * MIB}\n")
    (tmp_path / "cgroup").write_text("1:cpu:/\n0::/box/inner\n")
    monkeypatch.setattr(storage, "_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(storage, "_CGROUP_ROOT", tmp_path)
    assert available_nbytes() == 50 * MIB


def test_a_machine_without_proc_is_taken_at_its_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_MEMINFO", "_CGROUP", "_STATM"):
        monkeypatch.setattr(storage, name, tmp_path / "missing")
    assert available_nbytes() == 1 << 62
    assert Allocator().allocate(64 * MIB).nbytes == 64 * MIB


def test_threads_share_an_allocator() -> None:
    own = Allocator()
    wrong: list[int] = []

    def work(number: int) -> None:
        for k in range(400):
            block = own.allocate([64, 5000, 400_000, 3 * MIB][k % 4])
            view = block.numpy()[:4096]
            view[:] = number
            if (view != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert own.use.in_use == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_may_allocate_whatever_the_parent_was_doing() -> None:
    inside, done = threading.Event(), threading.Event()

    def busy() -> None:
        with storage.allocator._lock:
            inside.set()
            done.wait(0.2)

    thread = threading.Thread(target=busy)
    thread.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if allocate(3 * MIB).nbytes == 3 * MIB else 1)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert allocate(3 * MIB).nbytes == 3 * MIB
