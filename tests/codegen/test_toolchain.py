"""Text to object code to addresses, and what is said when that fails."""

import ctypes
import subprocess
import sys
import threading

import pytest

from treadle.codegen import toolchain
from treadle.codegen.target import host
from treadle.core.config import config
from treadle.core.errors import CompileError

ADD = "define i64 @add(i64 %a, i64 %b) {\nentry:\n  %c = add i64 %a, %b\n  ret i64 %c\n}\n"
TWICE = (
    "declare i64 @add(i64, i64)\ndefine i64 @twice(i64 %a) {\n  %c = call i64 @add(i64 %a, i64 %a)\n  ret i64 %c\n}\n"
)


def test_objects_are_linked_with_each_other():
    library = toolchain.load([toolchain.compile_object(t, host()) for t in (ADD, TWICE)], ["twice", "add"])
    assert library.names == ("twice", "add")
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(library.address("twice"))(21) == 42


def test_equal_text_gives_equal_code():
    assert toolchain.compile_object(ADD, host()) == toolchain.compile_object(ADD, host())


def test_the_same_names_may_be_loaded_again():
    code = toolchain.compile_object(ADD, host())
    first, second = toolchain.load([code], ["add"]), toolchain.load([code], ["add"])
    assert first.address("add") != second.address("add")


def test_wrong_text_shows_the_line():
    with pytest.raises(CompileError, match=r"(?s)LLVM rejects the generated code .*>     3 \|   %c = sum i64 %a, %b"):
        toolchain.compile_object(ADD.replace("= add", "= sum"), host())


def test_checks_verify_the_module():
    broken = "define i64 @f(i1 %c) {\n  br i1 %c, label %a, label %b\na:\n  %x = add i64 1, 2\n  br label %b\n"
    broken += "b:\n  ret i64 %x\n}\n"
    with config(checks=True), pytest.raises(CompileError, match="does not dominate"):
        toolchain.compile_object(broken, host())


def test_a_missing_function_is_named():
    with pytest.raises(CompileError, match=r"load: object code does not link: .*nothing_like_it"):
        toolchain.load([toolchain.compile_object(ADD, host())], ["nothing_like_it"])


def test_threads_may_compile_together():
    results = {}

    def work(k):
        code = toolchain.compile_object(ADD.replace("add i64 %a", f"add i64 {k}"), host())
        library = toolchain.load([code], ["add"])
        results[k] = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(library.address("add"))(0, 1000)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == {k: k + 1000 for k in range(8)}


def test_versions_are_named():
    assert toolchain.versions().startswith("llvmlite ")
    assert " llvm " in toolchain.versions()


def test_a_process_ends_quietly_with_code_loaded():
    script = (
        "from treadle.codegen import toolchain\nfrom treadle.codegen.target import host\n"
        f"keep = toolchain.load([toolchain.compile_object({ADD!r}, host())], ['add'])\nprint(keep.address('add') > 0)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "True\n", "")
