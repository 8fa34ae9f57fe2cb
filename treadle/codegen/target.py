"""The CPU that kernels are compiled for: instruction set and caches, read from the machine or forced by `config.cpu`.

Two instruction sets are supported: AVX-512 (F, BW, DQ, VL) and AVX2 (with FMA and F16C). A `Target` is a value: it is
part of every cache key.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding

from treadle.core.config import config
from treadle.core.errors import ConfigError

AVX512_NEEDS = ("avx512f", "avx512bw", "avx512dq", "avx512vl")
AVX2_NEEDS = ("avx2", "fma", "f16c")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_KIB = 1024
_llvm: Any = llvmlite.binding


@dataclass(frozen=True)
class Target:
    """What code generation may use. `features` is LLVM's feature string; cache sizes are what one core sees."""

    cpu: str
    features: str
    vector_bytes: int
    num_vector_registers: int
    l1: int
    l2: int
    l3: int

    @property
    def has_avx512(self) -> bool:
        """Whether 64-byte vectors, mask registers and scatters exist."""
        return self.vector_bytes == 64

    def has(self, feature: str) -> bool:
        """Whether LLVM's feature of that name is on."""
        return f"+{feature}" in self.features.split(",")

    def lanes(self, bits: int) -> int:
        """Elements of `bits` bits in one vector register; a bool counts as a byte."""
        return self.vector_bytes * 8 // max(bits, 8)

    @property
    def key(self) -> str:
        """All that object code depends on, for cache keys."""
        return f"{self.cpu}|{self.features}|{self.vector_bytes}|{self.l1}|{self.l2}|{self.l3}"

    def __str__(self) -> str:
        name = "AVX-512" if self.has_avx512 else "AVX2"
        return f"{self.cpu} ({name}; L1 {self.l1 // _KIB} KiB, L2 {self.l2 // _KIB} KiB, L3 {self.l3 // _KIB} KiB)"


def _read_size(text: str) -> int:
    text = text.strip()
    scale = {"K": _KIB, "M": _KIB**2, "G": _KIB**3}.get(text[-1:], 1)
    return int(text.rstrip("KMG")) * scale


def cache_sizes(folder: Path = _CACHES) -> tuple[int, int, int]:
    """Bytes of the L1 data, L2 and L3 cache of one core; usual sizes where the system does not say."""
    found: dict[int, int] = {}
    for entry in sorted(folder.glob("index*")):
        try:
            if (entry / "type").read_text().strip() != "Instruction":
                found[int((entry / "level").read_text())] = _read_size((entry / "size").read_text())
        except (OSError, ValueError):  # a virtual machine may hide some of the files
            continue
    l1 = found.get(1) or 32 * _KIB
    l2 = found.get(2) or 1024 * _KIB
    return l1, l2, found.get(3) or max(l2, 8 * _KIB * _KIB)


def make_target(name: str, features: dict[str, bool], cpu: str, caches: tuple[int, int, int]) -> Target:
    """The target for a CPU called `name` with these features; `cpu` is `native`, `avx512` or `avx2`.

    Raises ConfigError if the CPU cannot do what is asked.
    """
    missing512 = [f for f in AVX512_NEEDS if not features.get(f)]
    missing2 = [f for f in AVX2_NEEDS if not features.get(f)]
    if missing2:
        raise ConfigError(
            f"target: this CPU ({name}) has no {', '.join(missing2)}. "
            "Kernels need AVX2 with FMA and F16C (Intel since 2013, AMD since 2015): run on such a machine."
        )
    if cpu == "avx512" and missing512:
        raise ConfigError(
            f"target: cpu='avx512' was asked for, but this CPU ({name}) has no {', '.join(missing512)}. "
            "Use cpu='native' or cpu='avx2'."
        )
    wide = cpu != "avx2" and not missing512
    on = dict(features)
    if not wide:
        # Every AVX-512 and AVX10 feature goes, or the instruction selector would find its way back to mask registers.
        on = {f: state and not f.startswith(("avx512", "avx10", "amx-")) for f, state in on.items()}
    text = ",".join(f"{'+' if on[f] else '-'}{f}" for f in sorted(on))
    if wide:
        text += ",-prefer-256-bit"  # a tuning flag of some Intel models that would split operations
    return Target(name, text, 64 if wide else 32, 32 if wide else 16, *caches)


@cache
def _host(cpu: str) -> Target:
    return make_target(_llvm.get_host_cpu_name(), dict(_llvm.get_host_cpu_features()), cpu, cache_sizes())


def host() -> Target:
    """The target of this machine under `config.cpu`."""
    return _host(config.cpu)
