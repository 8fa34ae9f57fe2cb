"""Two small kernels for the tests of the runtime, whose result shows any run that came too early or too late."""

import ctypes
import random
from functools import cache

import numpy as np

from treadle.codegen import toolchain
from treadle.codegen.target import host
from treadle.runtime.program import KernelCall
from treadle.runtime.tasks import Span, Task

ELEMENTS = 64
NBYTES = 8 * ELEMENTS

# mix: out[i] = 31 * sum(a) + 17 * b[i] + k * i, after k rounds of doing nothing; slots a, b, out and the scalar k.
TEXT = """
declare void @llvm.sideeffect()

define void @mix(ptr %slots, ptr %args, i64 %lo, i64 %hi, ptr %scratch) {
entry:
  %a_slot = load i64, ptr %args
  %b_slot_at = getelementptr i64, ptr %args, i64 1
  %b_slot = load i64, ptr %b_slot_at
  %out_slot_at = getelementptr i64, ptr %args, i64 2
  %out_slot = load i64, ptr %out_slot_at
  %k_at = getelementptr i64, ptr %args, i64 3
  %k = load i64, ptr %k_at
  %a_at = getelementptr ptr, ptr %slots, i64 %a_slot
  %a = load ptr, ptr %a_at
  %b_at = getelementptr ptr, ptr %slots, i64 %b_slot
  %b = load ptr, ptr %b_at
  %out_at = getelementptr ptr, ptr %slots, i64 %out_slot
  %out = load ptr, ptr %out_at
  br label %idle
idle:
  %n = phi i64 [ 0, %entry ], [ %next_n, %idle ]
  call void @llvm.sideeffect()
  %next_n = add i64 %n, 1
  %more_n = icmp slt i64 %next_n, %k
  br i1 %more_n, label %idle, label %sum
sum:
  %j = phi i64 [ 0, %idle ], [ %next_j, %sum ]
  %total = phi i64 [ 0, %idle ], [ %next_total, %sum ]
  %aj_at = getelementptr i64, ptr %a, i64 %j
  %aj = load i64, ptr %aj_at
  %next_total = add i64 %total, %aj
  %next_j = add i64 %j, 1
  %more_j = icmp slt i64 %next_j, 64
  br i1 %more_j, label %sum, label %tiles
tiles:
  %i = phi i64 [ %lo, %sum ], [ %next_i, %tiles ]
  %bi_at = getelementptr i64, ptr %b, i64 %i
  %bi = load i64, ptr %bi_at
  %outi_at = getelementptr i64, ptr %out, i64 %i
  %part = mul i64 %next_total, 31
  %bi17 = mul i64 %bi, 17
  %ki = mul i64 %k, %i
  %two = add i64 %part, %bi17
  %three = add i64 %two, %ki
  store i64 %three, ptr %outi_at
  %next_i = add i64 %i, 1
  %more_i = icmp slt i64 %next_i, %hi
  br i1 %more_i, label %tiles, label %exit
exit:
  ret void
}

; Adds 1 to its scratch and writes the scratch's address to the slot: scratch must differ from thread to thread.
define void @touch(ptr %slots, ptr %args, i64 %lo, i64 %hi, ptr %scratch) {
  %slot = load i64, ptr %args
  %at = getelementptr ptr, ptr %slots, i64 %slot
  %data = load ptr, ptr %at
  %mine = getelementptr i64, ptr %data, i64 %lo
  %word = ptrtoint ptr %scratch to i64
  store i64 %word, ptr %mine
  %last = getelementptr i8, ptr %scratch, i64 4088
  store i64 %word, ptr %last
  ret void
}
"""


@cache
def library() -> toolchain.Library:
    return toolchain.load([toolchain.compile_object(TEXT, host())], ["mix", "touch"])


class Case:
    """A random program over one small arena in which buffers overlap, with its answer."""

    def __init__(self, seed: int, num_kernels: int, tiled: bool) -> None:
        rng = random.Random(seed)
        places = [64 * rng.randrange(24) for _ in range(12)]  # bytes; 64 apart, so buffers of 512 overlap partly
        tile = 8 if tiled else 0
        self.calls: list[KernelCall] = []
        self.tasks: list[Task] = []
        self.steps: list[tuple[int, int, int, int]] = []
        while len(self.tasks) < num_kernels:
            a, b, out = (rng.randrange(len(places)) for _ in range(3))
            far = abs(places[a] - places[out]) >= NBYTES
            apart = abs(places[b] - places[out]) >= NBYTES or (tiled and places[b] == places[out])
            if not (far and apart):
                continue
            k = rng.choice([1, 1, 10, 500, 3000])
            self.calls.append(KernelCall(library().address("mix"), (a, b, out, k), "mix"))
            self.tasks.append(
                Task(
                    ELEMENTS,
                    rng.choice([300.0, 4000.0, 12_000.0, 60_000.0]),
                    (Span("arena", places[a], places[a] + NBYTES), Span("arena", places[b], places[b] + NBYTES, tile)),
                    (Span("arena", places[out], places[out] + NBYTES, tile),),
                    f"mix{len(self.tasks)}",
                )
            )
            self.steps.append((places[a], places[b], places[out], k))
        self.memory = (ctypes.c_int64 * 512)()
        base = ctypes.addressof(self.memory)
        self.slots = (ctypes.c_int64 * len(places))(*(base + p for p in places))
        self.address = ctypes.addressof(self.slots)

    def reset(self) -> None:
        np.frombuffer(self.memory, np.int64)[:] = np.arange(512) * 1_000_003

    def result(self) -> np.ndarray:
        return np.frombuffer(self.memory, np.int64).copy()

    def expected(self) -> np.ndarray:
        """What the kernels give one after the other, by NumPy."""
        data = np.arange(512) * 1_000_003
        tiles = np.arange(ELEMENTS)
        for a, b, out, k in self.steps:
            at = [slice(p // 8, p // 8 + ELEMENTS) for p in (a, b, out)]
            data[at[2]] = 31 * data[at[0]].sum(keepdims=True) + 17 * data[at[1]] + k * tiles
        return data
