"""Types, values and literals of LLVM IR text, and how each dtype is stored and computed with."""

import ctypes
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from treadle.core.dtypes import DType

_BYTES = {"i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "half": 2, "bfloat": 2, "float": 4, "double": 8, "ptr": 8}
_MANGLED = {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64", "ptr": "p0"}
_FLOATS = ("half", "bfloat", "float", "double")
_FLOAT_OF_BITS = {32: "float", 64: "double"}


@dataclass(frozen=True, slots=True)
class VType:
    """An LLVM type: a scalar (`lanes == 1`) or a fixed vector of `lanes` elements `elem`."""

    elem: str
    lanes: int = 1

    def __str__(self) -> str:
        return self.elem if self.lanes == 1 else f"<{self.lanes} x {self.elem}>"

    @property
    def is_float(self) -> bool:
        """Whether elements are floating point."""
        return self.elem in _FLOATS

    @property
    def elem_nbytes(self) -> int:
        """Bytes of one element in memory."""
        return _BYTES[self.elem]

    @property
    def elem_bits(self) -> int:
        """Bits of one element; 1 for i1."""
        return 1 if self.elem == "i1" else 8 * _BYTES[self.elem]

    @property
    def mangled(self) -> str:
        """How an overloaded intrinsic's name spells this type: `f32`, `v16f32`."""
        elem = _MANGLED.get(self.elem, self.elem)
        return elem if self.lanes == 1 else f"v{self.lanes}{elem}"

    def with_elem(self, elem: str) -> "VType":
        """The type with as many lanes of another element."""
        return VType(elem, self.lanes)

    def with_lanes(self, lanes: int) -> "VType":
        """The type with the same element and another number of lanes."""
        return VType(self.elem, lanes)


I1, I8, I16, I32, I64 = VType("i1"), VType("i8"), VType("i16"), VType("i32"), VType("i64")
F16, F32, F64, PTR, VOID = VType("half"), VType("float"), VType("double"), VType("ptr"), VType("void")


@dataclass(frozen=True, slots=True)
class Value:
    """A typed SSA value or literal; `name` is what stands for it in the text."""

    name: str
    type: VType

    @property
    def const_int(self) -> int | None:
        """The number of a scalar integer literal, else None."""
        name = self.name
        if name.isdigit() or (name[0] == "-" and name[1:].isdigit()):
            return int(name)
        return None

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


def storage_type(dtype: DType, lanes: int = 1) -> VType:
    """The type of `dtype` in memory: bool is a byte, bfloat16 is the upper half of a float32."""
    if dtype.kind == "bool":
        return VType("i8", lanes)
    if dtype.kind == "float":
        return VType({"float16": "half", "bfloat16": "i16", "float32": "float", "float64": "double"}[dtype.name], lanes)
    return VType(f"i{dtype.bits}", lanes)


def compute_type(dtype: DType, lanes: int = 1) -> VType:
    """The type of `dtype` in registers: bool is i1, float16 and bfloat16 are float."""
    if dtype.kind == "bool":
        return VType("i1", lanes)
    if dtype.kind == "float":
        return VType(_FLOAT_OF_BITS[max(dtype.bits, 32)], lanes)
    return VType(f"i{dtype.bits}", lanes)


def _float_literal(value: float, elem: str) -> str:
    if elem == "half":
        return f"0xH{struct.unpack('<H', struct.pack('<e', value))[0]:04X}"
    if elem == "bfloat":
        return f"0xR{struct.unpack('<I', struct.pack('<f', value))[0] >> 16:04X}"
    if elem == "float":  # LLVM wants the double with exactly the float's value
        value = ctypes.c_float(value).value
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def const(value: int | float, type: VType) -> Value:
    """The literal `value`, in every lane."""
    if type.is_float:
        text = _float_literal(float(value), type.elem)
    elif type.elem == "ptr":
        text = "null"
    elif type.elem == "i1":
        text = "true" if value else "false"
    else:
        text = str(int(value))
    if type.lanes == 1:
        return Value(text, type)
    return Value(f"splat ({type.elem} {text})", type)


def vector(values: Sequence[int | float], elem: VType) -> Value:
    """The literal vector with one given number per lane."""
    body = ", ".join(str(const(v, elem)) for v in values)
    return Value(f"<{body}>", elem.with_lanes(len(values)))


def poison(type: VType) -> Value:
    """A value nobody may look at."""
    return Value("poison", type)
