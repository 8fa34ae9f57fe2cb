"""Elements between memory and registers: how each dtype is stored, and how it is computed with.

A bool is a byte in memory and one bit in a register; float16 and bfloat16 are computed in float32.
"""

from treadle.core import DType

from .llvm import I32, Function, Value, compute_type, const, storage_type

STEPS = 4  # the widest distance of elements that vectors are loaded for whole; wider apart, they are gathered


def load_lanes(
    f: Function, pointer: Value, index: Value, dtype: DType, lanes: int, *, mask: Value | None = None
) -> Value:
    """Return elements from `index` on (one for each index where it is a vector), ready to compute with.

    Where the mask is false memory is not touched and the value is zero.
    """
    kind = storage_type(dtype, lanes)
    address = f.gep(pointer, index, kind.with_lanes(1))
    if index.type.lanes > 1:
        stored = f.gather(address, kind, mask, 0)
    elif mask is not None and lanes > 1:
        stored = f.masked_load(address, kind, mask, 0)
    else:
        stored = f.load(address, kind)
    return widen(f, stored, dtype)


def load_apart(f: Function, pointer: Value, base: Value, by: int, dtype: DType, lanes: int) -> Value:
    """Return the elements at base, base + by, ..., ready to compute with: every by-th lane of `by` vectors.

    `by` is 2 to STEPS, or -1. The vectors end where the last element does: nothing behind it is read.
    """
    kind = storage_type(dtype, lanes)

    def part(offset: int) -> Value:
        return f.load(f.gep(pointer, f.iadd(base, offset), kind.with_lanes(1)), kind)

    if by < 0:
        turned = part(1 - lanes)
        return widen(f, f.shuffle(turned, turned, list(reversed(range(lanes)))), dtype)
    starts = [*(k * lanes for k in range(by - 1)), by * (lanes - 1) + 1 - lanes]
    found = part(0)
    for k in range(1, by):
        here = [min(by * i // lanes, by - 1) for i in range(lanes)]  # the vector that each lane is in
        before = [min(by * i, lanes - 1) if k == 1 else i for i in range(lanes)]
        picks = [lanes + by * i - starts[k] if here[i] == k else before[i] for i in range(lanes)]
        found = f.shuffle(found, part(starts[k]), picks)
    return widen(f, found, dtype)


def store_lanes(
    f: Function, value: Value, pointer: Value, index: Value, dtype: DType, *, mask: Value | None = None
) -> None:
    """Write computed values to consecutive elements from `index` on, or one to each index of a vector."""
    stored = narrow(f, value, dtype)
    address = f.gep(pointer, index, stored.type.with_lanes(1))
    if index.type.lanes > 1:
        f.scatter(stored, address, mask)
    elif mask is not None and stored.type.lanes > 1:
        f.masked_store(stored, address, mask)
    else:
        f.store(stored, address)


def widen(f: Function, stored: Value, dtype: DType) -> Value:
    """Return stored elements in the type they are computed in; exact."""
    lanes = stored.type.lanes
    if dtype.kind == "bool":
        return f.icmp("ne", stored, const(0, stored.type))
    if dtype.name == "bfloat16":
        wide = f.bitcast(f.shl(f.cast("zext", stored, "i32"), 16), compute_type(dtype, lanes))
    elif dtype.name == "float16":
        wide = f.cast("fpext", stored, "float")
    else:
        return stored
    f.stored[wide, dtype.name] = stored
    return wide


def narrow(f: Function, value: Value, dtype: DType) -> Value:
    """Return computed values as they are stored: floats rounded to nearest even, NaN kept; exact ones as they were."""
    if dtype.kind == "bool":
        return f.cast("zext", value, "i8")
    if not dtype.is_float:
        return value
    if (value, dtype.name) in f.stored:
        return f.stored[value, dtype.name]
    if dtype.name != "bfloat16":
        return f.cast("fptrunc", value, storage_type(dtype).elem)
    bits = f.bitcast(f.cast("fptrunc", value, "float"), I32.with_lanes(value.type.lanes))
    high = f.lshr(bits, 16)
    rounded = f.lshr(f.add(f.add(bits, 0x7FFF), f.and_(high, 1)), 16)
    is_nan = f.fcmp("uno", value, value)
    return f.cast("trunc", f.select(is_nan, f.or_(high, 0x40), rounded), "i16")
