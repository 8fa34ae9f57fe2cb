"""Blocks of memory for tensors, arenas and scratch; freed blocks are kept by size, so a repeated step maps no new page.

Blocks below 16 MiB are cut from shared regions, larger ones are mapped one by one. Huge pages make a large tensor
quicker to read, but they take long to touch first where a virtual machine has to ask its host for them. So arenas and
regions start on small pages, and the system may join those in the background once they have been used. Freed blocks
above 256 KiB are kept in a bounded cache, and their pages are given back to the system beyond it. A request that the
machine cannot hold raises MemoryLimitError before the system would kill the process.
"""

import ctypes
import mmap
import os
import threading
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from treadle.core.errors import MemoryLimitError

ALIGNMENT = 64
HUGE_PAGE_NBYTES = 2 << 20
_PAGE_NBYTES = mmap.PAGESIZE
_SMALL_LIMIT = 256 << 10
_CUT_LIMIT = 16 << 20
_REGION_NBYTES = 64 << 20
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/proc/self/cgroup")
_CGROUP_ROOT = Path("/sys/fs/cgroup")
_STATM = Path("/proc/self/statm")


def map_pages(nbytes: int, *, align: int = _PAGE_NBYTES, huge: bool = False) -> tuple[mmap.mmap, int]:
    """Fresh zeroed private memory, perhaps on huge pages, and the first address in it that is a multiple of `align`."""
    slack = align if align > _PAGE_NBYTES else 0
    pages = mmap.mmap(-1, nbytes + slack, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    if huge:
        join_pages(pages)
    return pages, -(-address // align) * align


def join_pages(pages: mmap.mmap) -> None:
    """Let the system use huge pages: at once for what is not touched yet, in the background for what is."""
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)


def size_class(nbytes: int) -> int:
    """Bytes of the block that serves a request: about a quarter above it at most, in multiples of 64 or of a page.

    >>> size_class(1), size_class(65), size_class(1100), size_class(5 << 20)
    (64, 128, 1280, 5242880)
    """
    steps = 4 if nbytes <= _SMALL_LIMIT else 8
    grain = max(ALIGNMENT, (1 << max(nbytes - 1, 0).bit_length()) // (2 * steps))
    if nbytes > _SMALL_LIMIT:
        grain = max(grain, HUGE_PAGE_NBYTES if nbytes > _CUT_LIMIT else _PAGE_NBYTES)
    return max(-(-nbytes // grain) * grain, ALIGNMENT)


class Storage:
    """One block of memory; it goes back to its allocator when the last reference, views included, is gone."""

    __slots__ = ("__weakref__", "_home", "address", "nbytes")

    address: int
    nbytes: int

    def __init__(self, address: int, nbytes: int, home: "_Class") -> None:
        self.address = address
        self.nbytes = nbytes
        self._home = home

    def __del__(self) -> None:
        self._home.give_back(self.address)

    def numpy(
        self, dtype: Any = np.uint8, shape: tuple[int, ...] | None = None, offset: int = 0
    ) -> np.ndarray[Any, Any]:
        """A writable NumPy view of the block from byte `offset`; it keeps the block alive and exports DLPack."""
        wanted = np.dtype(dtype)
        if shape is None:
            shape = ((self.nbytes - offset) // wanted.itemsize,)
        buffer = _buffer_type(self.nbytes).from_address(self.address)
        buffer.storage = self  # the array holds the buffer, and the buffer this block
        return np.ndarray(shape, wanted, buffer, offset)

    def memory(self) -> memoryview:
        """A writable memoryview of the bytes; it keeps the block alive."""
        return self.numpy().data

    def __repr__(self) -> str:
        return f"Storage({self.nbytes} bytes at {self.address:#x})"


@lru_cache(4096)
def _buffer_type(nbytes: int) -> Any:
    # A third of the time that NumPy takes to read an `__array_interface__`.
    return ctypes.c_char * nbytes


def address_of(array: np.ndarray[Any, Any]) -> int:
    """The address of an array's first element, in a fifth of the time of `array.ctypes.data`."""
    return _word_at(id(array) + _DATA_FIELD).value if _DATA_FIELD else array.ctypes.data


_word_at = ctypes.c_size_t.from_address


def _find_data_field() -> int:
    """Where an array object keeps its data pointer: right behind its header, by NumPy's C ABI; 0 if not there."""
    probe = np.zeros(3, np.int16)
    field = object.__basicsize__
    return field if _word_at(id(probe) + field).value == probe.ctypes.data else 0


_DATA_FIELD = _find_data_field()


class _Class:
    """Blocks of one size. Popping and appending are atomic under the GIL, so the usual allocation takes no lock."""

    __slots__ = ("allocator", "free", "nbytes")

    def __init__(self, allocator: "Allocator", nbytes: int) -> None:
        self.allocator = allocator
        self.nbytes = nbytes
        self.free: list[int] = []

    def give_back(self, address: int) -> None:
        self.free.append(address)


class _PagedClass(_Class):
    """Blocks of whole pages, which can be given back to the system."""

    __slots__ = ()

    def give_back(self, address: int) -> None:
        # This runs from __del__, perhaps in a thread that holds the allocator's lock: leave the block at the door.
        self.allocator.returned.append((address, self.nbytes))
        self.allocator.collect(wait=False)


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of an allocator: in live blocks (now and at most), and kept for reuse."""

    in_use: int
    peak: int
    cached: int


class Allocator:
    """A source of storages. `max_cached` bounds the blocks of pages kept for reuse; None: an eighth of the memory."""

    def __init__(self, max_cached: int | None = None) -> None:
        self._max_cached = max_cached
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._classes: dict[int, _Class] = {}  # by exact request; many requests share a class
        self._by_size: dict[int, _Class] = {}
        self._regions: list[mmap.mmap] = []  # blocks are cut from the last
        self._cut = self._cut_end = 0
        self._carved = 0  # bytes of small blocks, which stay
        self._pages: dict[int, mmap.mmap] = {}  # where each block of whole pages lies
        self._cached: dict[int, list[int]] = {}  # those ready for reuse, by size
        self._apart: set[int] = set()  # those mapped on small pages and not given back yet
        self._empty: dict[int, list[int]] = {}  # those cut from a region whose pages were given back
        self._cached_nbytes = 0
        self._paged_in_use = 0
        self._peak = 0
        self.returned: deque[tuple[int, int]] = deque()

    def allocate(self, nbytes: int, *, huge: bool = True) -> Storage:
        """A block of at least `nbytes` bytes, 64-byte aligned, with arbitrary contents.

        Without `huge` a fresh large one lies on small pages until it is given back.
        """
        home = self._classes.get(nbytes)
        if home is None:
            home = self._class_of(nbytes)
        try:
            address = home.free.pop()
        except IndexError:
            address = self._carve(home.nbytes) if home.nbytes <= _SMALL_LIMIT else self._paged(home.nbytes, huge=huge)
        return Storage(address, nbytes, home)

    def _class_of(self, nbytes: int) -> _Class:
        if nbytes < 0:
            raise ValueError(f"allocate: {nbytes} bytes is not a size. Ask for 0 or more.")
        size = size_class(nbytes)
        with self._lock:
            home = self._by_size.get(size)
            if home is None:
                home = self._by_size[size] = (_Class if size <= _SMALL_LIMIT else _PagedClass)(self, size)
            if len(self._classes) < 1 << 16:
                self._classes[nbytes] = home
        return home

    def _carve(self, nbytes: int) -> int:
        with self._lock:
            self._carved += nbytes
            self._note_peak()
            return self._cut_off(nbytes, ALIGNMENT)

    def _paged(self, nbytes: int, *, huge: bool) -> int:
        with self._lock:
            self._collect()
            ready = self._cached.get(nbytes)
            if ready:
                address = ready.pop()
                self._cached_nbytes -= nbytes
            elif nbytes > _CUT_LIMIT:
                address = self._map(nbytes, huge=huge)
            elif self._empty.get(nbytes):
                address = self._empty[nbytes].pop()
            else:
                address = self._cut_off(nbytes, _PAGE_NBYTES)
                self._pages[address] = self._regions[-1]
            self._paged_in_use += nbytes
            self._note_peak()
        self.collect(wait=False)
        return address

    def _cut_off(self, nbytes: int, align: int) -> int:
        """The next bytes of the region; what is left of one that is too short is never touched."""
        address = -(-self._cut // align) * align
        if address + nbytes > self._cut_end:
            if self._regions:
                join_pages(self._regions[-1])
            region, address = self._mapped(_REGION_NBYTES, huge=False)
            self._regions.append(region)
            self._cut_end = address + _REGION_NBYTES
        self._cut = address + nbytes
        return address

    def _map(self, nbytes: int, *, huge: bool) -> int:
        if nbytes > available_nbytes() - self._promised():
            self._trim()
            available = available_nbytes() - self._promised()
            if nbytes > available:
                raise _refusal(nbytes, max(available, 0))
        pages, address = self._mapped(nbytes, huge=huge)
        self._pages[address] = pages
        if not huge:
            self._apart.add(address)
        return address

    def _mapped(self, nbytes: int, *, huge: bool) -> tuple[mmap.mmap, int]:
        try:
            return map_pages(nbytes, align=HUGE_PAGE_NBYTES, huge=huge)
        except (OSError, MemoryError, OverflowError, ValueError):
            raise _refusal(nbytes, available_nbytes()) from None

    def _promised(self) -> int:
        """Bytes we mapped that hold no page yet: the system still counts them as available."""
        try:
            resident = int(_STATM.read_text().split()[1]) * _PAGE_NBYTES
        except (OSError, ValueError, IndexError):
            return 0
        return max(0, self._paged_in_use + self._cached_nbytes - resident)

    def collect(self, *, wait: bool) -> None:
        """Take back the blocks of pages that were freed; without `wait`, whoever holds the lock does it."""
        while self.returned and self._lock.acquire(blocking=wait):
            try:
                self._collect()
            finally:
                self._lock.release()

    def _collect(self) -> None:
        limit = self._limit()
        while self.returned:
            address, nbytes = self.returned.popleft()
            self._paged_in_use -= nbytes
            if address in self._apart:
                self._apart.remove(address)
                join_pages(self._pages[address])
            if nbytes > limit:
                self._release(address, nbytes)
                continue
            self._cached.setdefault(nbytes, []).append(address)
            self._cached_nbytes += nbytes
        while self._cached_nbytes > limit:
            self._release_one()

    def _limit(self) -> int:
        if self._max_cached is None:
            self._max_cached = os.sysconf("SC_PHYS_PAGES") * _PAGE_NBYTES // 8
        return self._max_cached

    def _release_one(self) -> None:
        # The size least recently met goes first: dicts keep the order of insertion, and an emptied size is removed.
        size, ready = next(iter(self._cached.items()))
        if ready:
            self._release(ready.pop(0), size)
            self._cached_nbytes -= size
        if not ready:
            del self._cached[size]

    def _release(self, address: int, nbytes: int) -> None:
        if nbytes > _CUT_LIMIT:
            self._pages.pop(address).close()
            return
        region = self._pages[address]
        start = address - ctypes.addressof(ctypes.c_char.from_buffer(region))
        region.madvise(mmap.MADV_DONTNEED, start, nbytes)
        self._empty.setdefault(nbytes, []).append(address)

    def _trim(self) -> None:
        while self._cached:
            self._release_one()

    def trim(self) -> None:
        """Give the pages of every cached block back to the system."""
        with self._lock:
            self._collect()
            self._trim()

    def _small_in_use(self) -> int:
        idle = sum(len(home.free) * home.nbytes for home in self._by_size.values() if home.nbytes <= _SMALL_LIMIT)
        return self._carved - idle

    def _note_peak(self) -> None:
        self._peak = max(self._peak, self._paged_in_use + self._small_in_use())

    @property
    def use(self) -> MemoryUse:
        """What the allocator holds now."""
        with self._lock:
            self._collect()
            small = self._small_in_use()
            self._note_peak()
            return MemoryUse(small + self._paged_in_use, self._peak, self._cached_nbytes + self._carved - small)

    def before_fork(self) -> None:
        """Wait until no thread is inside, so that the child gets the lists in order."""
        self._lock.acquire()

    def after_fork(self) -> None:
        """Go on, in the parent and in the child."""
        self._lock.release()


def _refusal(asked: int, available: int) -> MemoryLimitError:
    return MemoryLimitError(
        f"allocate: {asked:,} bytes asked, {available:,} bytes available on this machine. "
        "Use smaller batches or checkpointing, free tensors, or run on a machine with more memory."
    )


def available_nbytes() -> int:
    """Bytes that this process may still take: what the system calls available, or what its control group leaves."""
    available = 1 << 62
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) << 10
                break
    except (OSError, ValueError):
        pass
    return min([available, *_cgroup_room()])


def _cgroup_room() -> list[int]:
    """What each control group above this process leaves: limit minus use; reclaimable file pages count as unused."""
    rooms: list[int] = []
    try:
        lines = _CGROUP.read_text().splitlines()
    except OSError:
        return rooms
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit_name, use_name = _CGROUP_ROOT, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit_name, use_name = _CGROUP_ROOT / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        folder = root / path.strip("/")
        while True:
            room = _room(folder, limit_name, use_name)
            if room is not None:
                rooms.append(room)
            if folder == root:
                break
            folder = folder.parent
    return rooms


def _room(folder: Path, limit_name: str, use_name: str) -> int | None:
    try:
        limit = int((folder / limit_name).read_text())
        used = int((folder / use_name).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such controller, or "max"
        return None
    return limit - used + int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))


allocator = Allocator()
os.register_at_fork(
    before=allocator.before_fork, after_in_parent=allocator.after_fork, after_in_child=allocator.after_fork
)


def allocate(nbytes: int, *, huge: bool = True) -> Storage:
    """A block from the process's allocator: at least `nbytes` bytes, 64-byte aligned, with arbitrary contents."""
    return allocator.allocate(nbytes, huge=huge)
