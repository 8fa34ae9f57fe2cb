"""The object cache: found again, never wrong, never in the way."""

import dataclasses
import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from treadle.codegen import cache, toolchain
from treadle.codegen.cache import ObjectCache, cache_key, object_cache, object_code
from treadle.codegen.target import host
from treadle.core.config import config

TEXT = "define i64 @f() {\n  ret i64 7\n}\n"
KEY = "ab" + "0" * 62


@pytest.fixture
def store(tmp_path):
    return ObjectCache(tmp_path / "objects")


def files(store):
    return sorted(p for p in store.folder.rglob("*") if p.is_file())


def test_code_is_written_once_and_found_again(tmp_path):
    calls = []

    def write():
        calls.append(1)
        return TEXT

    with config(cache_dir=str(tmp_path)):
        first = object_code("content", write, host())
        assert object_code("content", write, host()) == first
        assert len(calls) == 1
        object_code("other content", write, host())
        assert len(calls) == 2
        store = object_cache()
        assert store is not None
        assert (store.hits, store.misses) == (1, 2)
    with config(cache_dir=""):
        assert object_cache() is None
        assert object_code("content", write, host()) == first
        assert len(calls) == 3


def test_the_key_depends_on_everything(monkeypatch):
    machine = host()
    keys = {cache_key("a", machine), cache_key("b", machine), cache_key("a", dataclasses.replace(machine, l2=1))}
    monkeypatch.setattr(toolchain, "versions", lambda: "another llvm")
    keys.add(cache_key("a", machine))
    monkeypatch.setattr(cache, "_generators", lambda: "edited sources")
    keys.add(cache_key("a", machine))
    assert len(keys) == 5


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:20], lambda b: b"", lambda b: b[:-1] + b"\0", lambda b: b"x" + b]
)
def test_damaged_files_are_not_used(store, damage):
    code = os.urandom(3000) + b"\1"
    store.put(KEY, code)
    assert store.get(KEY) == code
    (path,) = files(store)
    path.write_bytes(damage(path.read_bytes()))
    assert store.get(KEY) is None
    store.put(KEY, code)
    assert store.get(KEY) == code


def test_a_damaged_file_is_compiled_again(tmp_path):
    with config(cache_dir=str(tmp_path)):
        code = object_code("content", lambda: TEXT, host())
        for path in tmp_path.rglob("*.o"):
            path.write_bytes(path.read_bytes()[:50])
        assert object_code("content", lambda: TEXT, host()) == code


def test_the_longest_unused_go_first(store):
    small = ObjectCache(store.folder, limit=10_500)
    for k in range(10):
        small.put(f"{k:064x}", bytes([k]) * 1000)
        os.utime(small._path(f"{k:064x}"), (k, k))
    assert small.get(f"{0:064x}") is not None  # used now
    small.put(f"{10:064x}", b"x" * 1000)
    small.sweep()
    kept = [k for k in range(11) if small.get(f"{k:064x}") is not None]
    assert kept == [0, *range(3, 11)]
    assert sum(p.stat().st_size for p in files(small)) <= 0.9 * 10_500


def test_leftovers_of_dead_processes_are_swept(store):
    store.put(KEY, b"code")
    old, young = store.folder / "ab" / "dead.tmp", store.folder / "ab" / "busy.tmp"
    old.write_bytes(b"half")
    young.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    store.sweep()
    assert not old.exists()
    assert young.exists()
    assert store.get(KEY) == b"code"


def test_an_unusable_folder_warns_once_and_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    store = ObjectCache(tmp_path / "file" / "objects")
    with pytest.warns(RuntimeWarning, match=r"cache: cannot write to .*file.objects .*TREADLE_CACHE_DIR") as caught:
        store.put(KEY, b"code")
    store.put(KEY, b"code")  # a second warning would be an error here
    assert len(caught) == 1
    assert store.get(KEY) is None


def test_a_full_disk_leaves_nothing_behind(store, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(RuntimeWarning, match="No space left on device"):
        store.put(KEY, b"code")
    assert files(store) == []


def test_an_interrupt_leaves_nothing_behind(store, monkeypatch):
    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.put(KEY, b"code")
    assert files(store) == []
    monkeypatch.undo()
    store.put(KEY, b"code")
    assert store.get(KEY) == b"code"


def test_the_folder_is_private(store):
    store.put(KEY, b"code")
    (path,) = files(store)
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o022 == 0


def test_threads_and_evictions_never_give_wrong_code(store):
    small = ObjectCache(store.folder, limit=20_000)
    wrong = []

    def work(seed):
        for k in range(200):
            key, code = f"{(k * 7 + seed) % 40:064x}", bytes([(k * 7 + seed) % 40]) * 1000
            found = small.get(key)
            if found is not None and found != code:
                wrong.append(key)
            small.put(key, code)
            if k % 20 == 0:
                small.sweep()

    threads = [threading.Thread(target=work, args=(s,)) for s in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_processes_may_share_a_folder(tmp_path):
    script = (
        "from treadle.codegen.cache import object_code, object_cache\nfrom treadle.codegen.target import host\n"
        f"for k in range(20): code = object_code(str(k), lambda: {TEXT!r}, host())\n"
        "print(len(code), object_cache().hits + object_cache().misses)\n"
    )
    environment = os.environ | {"TREADLE_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    pipe = subprocess.PIPE
    running = [subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) for _ in range(3)]
    outputs = [p.communicate() for p in running]
    assert {e for _, e in outputs} == {""}
    assert len({o for o, _ in outputs}) == 1
    assert len(list(tmp_path.rglob("*.o"))) == 20
    assert not list(tmp_path.rglob("*.tmp"))
