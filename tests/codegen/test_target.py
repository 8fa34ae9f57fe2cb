"""What is known of the CPU, and what forcing a narrower one takes away."""

import pytest

from treadle.codegen import toolchain
from treadle.codegen.llvm import F32, Module
from treadle.codegen.target import AVX2_NEEDS, AVX512_NEEDS, cache_sizes, host, make_target
from treadle.core.config import config
from treadle.core.errors import ConfigError

CACHES = (32768, 1 << 20, 32 << 20)
WIDE = dict.fromkeys([*AVX2_NEEDS, *AVX512_NEEDS, "avx512bf16", "avx512vnni", "avx10.1", "amx-int8", "sse2"], True)
NARROW = dict.fromkeys([*AVX2_NEEDS, "sse2"], True) | {"avx512f": False}


def test_avx512_is_used_where_all_of_it_is_there():
    made = make_target("emeraldrapids", WIDE, "native", CACHES)
    assert made.has_avx512
    assert (made.vector_bytes, made.num_vector_registers) == (64, 32)
    assert made.has("avx512bf16")
    assert made.has("avx512vnni")
    assert (made.lanes(32), made.lanes(64), made.lanes(8), made.lanes(1)) == (16, 8, 64, 64)
    assert str(made) == "emeraldrapids (AVX-512; L1 32 KiB, L2 1024 KiB, L3 32768 KiB)"
    partial = WIDE | {"avx512dq": False}
    assert not make_target("xeon-phi", partial, "native", CACHES).has_avx512


def test_forcing_avx2_switches_every_wider_feature_off():
    made = make_target("emeraldrapids", WIDE, "avx2", CACHES)
    assert (made.vector_bytes, made.num_vector_registers) == (32, 16)
    switched = made.features.split(",")
    assert not [f for f in switched if f.startswith(("+avx512", "+avx10", "+amx"))]
    assert {"-avx512f", "-avx10.1", "-amx-int8", "+avx2"} <= set(switched)
    assert not made.has("avx512bf16")
    assert made.key != make_target("emeraldrapids", WIDE, "native", CACHES).key


def test_forced_avx2_code_has_no_wide_registers():
    module = Module()
    f = module.kernel("k")
    v = f.load(f.buffer(0), F32.with_lanes(64))
    mask = f.lane_mask(f.params[2], 64)
    f.masked_store(f.fma(v, v, f.select(f.fcmp("ogt", v, 1.0), v, 2.0)), f.buffer(1), mask)
    f.ret()
    with config(cpu="avx2"):
        text = toolchain.assembly(str(module), host())
    assert "%ymm" in text
    assert "zmm" not in text
    assert "%k1" not in text


def test_a_cpu_without_avx2_is_refused():
    with pytest.raises(ConfigError, match=r"target: this CPU \(nehalem\) has no avx2, fma, f16c\. Kernels need AVX2"):
        make_target("nehalem", {"sse2": True}, "native", CACHES)


def test_asking_for_avx512_in_vain_is_refused():
    with pytest.raises(ConfigError, match=r"cpu='avx512' was asked for, but this CPU \(haswell\) has no avx512f"):
        make_target("haswell", NARROW, "avx512", CACHES)
    assert not make_target("haswell", NARROW, "native", CACHES).has_avx512


def test_cache_sizes_are_read_and_guessed(tmp_path):
    assert cache_sizes(tmp_path) == (32 << 10, 1 << 20, 8 << 20)
    for k, (level, kind, size) in enumerate([("1", "Data", "48K"), ("1", "Instruction", "64K"), ("2", "Unified", "2M"),
                                             ("3", "Unified", "garbage")]):  # fmt: skip
        entry = tmp_path / f"index{k}"
        entry.mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (entry / name).write_text(text + "\n")
    assert cache_sizes(tmp_path) == (48 << 10, 2 << 20, 8 << 20)


def test_the_host_follows_the_configuration():
    with config(cpu="avx2"):
        assert host().vector_bytes == 32
    assert host() is host()
    assert 8 << 10 <= host().l1 <= host().l2 <= max(host().l2, host().l3)
