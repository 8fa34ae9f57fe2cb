"""The sorting kernel: keys made of a row, sorted by insertion or by digits, read back through their positions.

A key is an unsigned number whose order is the one wanted: that of floats by turning the bits of negative ones round,
zeros alike, NaN greatest; for a descending order its complement. Keys of up to 32 bits share a 64-bit word with their
position, which makes words distinct; longer ones have their positions beside them.
"""

from __future__ import annotations

from treadle.schedule.sort import DIGIT, FEW, FRONT, SortSchedule

from .llvm import I32, I64, Function, Module, Value, VType, const

BINS = 1 << DIGIT
ZERO_ROW = 16  # lanes that clear a table


def emit_sort(schedule: SortSchedule, name: str) -> str:
    """Return the module text of a kernel; buffer 0 is the operand."""
    module = Module(f"{name}: {schedule}")
    _Writer(module.kernel(name), schedule).emit()
    return str(module)


class _Writer:
    def __init__(self, f: Function, schedule: SortSchedule) -> None:
        self.f = f
        self.s = schedule
        self.element = VType(f"i{schedule.key_bits}")  # elements are moved as bits
        self.source = f.buffer(0)
        self.results = [None if k is None else f.buffer(k) for k in schedule.slots]
        scratch = f.params[4]
        # A word before the first one ends insertion; it is less than all others.
        self.a = f.gep(scratch, FRONT)
        self.b = f.gep(scratch, schedule.row_nbytes + FRONT)
        self.table = f.gep(scratch, 2 * schedule.row_nbytes)

    def emit(self) -> None:
        """Write the loop over rows."""
        f = self.f
        _, _, low, high, _ = f.params
        f.store(const(0, I64), f.gep(self.a, -8))
        f.loop(low, high, 1, [], lambda t, _: self.row(t))
        f.ret()

    def row(self, t: Value) -> None:
        """Sort one row."""
        f, s = self.f, self.s
        start = f.imul(t, s.size)
        if s.select:
            self.clear(1 << s.select)
        early = not s.select and s.size > FEW
        if early:
            self.clear(s.passes * BINS)
        f.loop(0, s.size, 1, [], lambda i, _: self.key(start, i, count=early))
        if s.select:
            m = self.drop()
            first = f.if_(f.icmp("sle", m, FEW), lambda: self.insertion(m), lambda: self.by_digits(m, counted=False))
        else:
            m = const(s.size, I64)
            first = self.by_digits(m, counted=True) if early else self.insertion(m)
        f.loop(0, s.count, 1, [], lambda i, _: self.give(t, start, first[0], i))

    # ---- words

    def load(self, base: Value, i: Value) -> tuple[Value, ...]:
        """Read a word: key and position in one, or one after the other."""
        f = self.f
        key = f.load(f.gep(base, i, I64), I64)
        return (key,) if self.s.packed else (key, f.load(f.gep(self.positions(base), i, I32), I32))

    def store(self, base: Value, i: Value, word: tuple[Value, ...]) -> None:
        """Write a word."""
        f = self.f
        f.store(word[0], f.gep(base, i, I64))
        if not self.s.packed:
            f.store(word[1], f.gep(self.positions(base), i, I32))

    def positions(self, base: Value) -> Value:
        """Return where the positions beside keys start."""
        return self.f.gep(base, self.s.keys_nbytes)

    def key(self, start: Value, i: Value, *, count: bool) -> None:
        """Make the word of element i, and count its digits if that is wanted now."""
        f, s = self.f, self.s
        bits = f.load(f.gep(self.source, f.iadd(start, i), self.element), self.element)
        key = f.cast("zext", self.ordered(bits), "i64")
        if s.packed:
            self.store(self.a, i, (f.or_(f.shl(key, 32), i),))
        else:
            self.store(self.a, i, (key, f.cast("trunc", i, "i32")))
        if count:
            for digit in range(s.passes):
                self.increment(f.iadd(self.digit_of(key, digit), digit * BINS))
        elif s.select:
            self.increment(f.lshr(key, s.key_bits - s.select))

    def ordered(self, bits: Value) -> Value:
        """Return an element's bits as an unsigned number in the order wanted."""
        f, s, kind = self.f, self.s, self.element
        sign = 1 << (s.key_bits - 1)
        key = bits
        if s.dtype.is_float:
            magnitude = f.and_(bits, sign - 1)
            negative = f.icmp("slt", bits, 0)
            turned = f.select(negative, f.not_(bits), f.or_(bits, const(-sign, kind)))
            turned = f.select(f.icmp("eq", magnitude, 0), const(-sign, kind), turned)
            key = f.select(f.icmp("ugt", magnitude, INFINITY[s.dtype.name]), const(-1, kind), turned)
        elif s.dtype.kind == "int":
            key = f.xor(bits, const(-sign, kind))
        return f.not_(key) if s.descending else key

    def digit_of(self, key: Value, digit: int) -> Value:
        """Return a digit of a key, 0 the least significant."""
        f = self.f
        return f.and_(f.lshr(key, digit * DIGIT) if digit else key, BINS - 1)

    def digit_in(self, word: tuple[Value, ...], digit: int) -> Value:
        """Return a digit of the key in a word."""
        f = self.f
        return self.digit_of(f.lshr(word[0], 32) if self.s.packed else word[0], digit)

    # ---- counting

    def clear(self, count: int) -> None:
        """Set counters to zero."""
        f = self.f
        zeros = const(0, I32.with_lanes(ZERO_ROW))
        f.loop(0, count, ZERO_ROW, [], lambda k, _: f.store(zeros, f.gep(self.table, k, I32)))

    def increment(self, at: Value) -> Value:
        """Add one to a counter; return what it was, as an index."""
        f = self.f
        address = f.gep(self.table, at, I32)
        before = f.load(address, I32)
        f.store(f.add(before, 1), address)
        return f.cast("zext", before, "i64")

    def drop(self) -> Value:
        """Keep the words that may be among the first ones, in order; return how many there are."""
        f, s = self.f, self.s

        def more(carried: tuple[Value, ...]) -> Value:
            return f.icmp("slt", carried[1], s.count)

        def next_bin(carried: tuple[Value, ...]) -> list[Value]:
            there = f.cast("zext", f.load(f.gep(self.table, carried[0], I32), I32), "i64")
            return [f.iadd(carried[0], 1), f.iadd(carried[1], there)]

        end, _ = f.while_([const(0, I64), const(0, I64)], more, next_bin)

        def keep(i: Value, carried: tuple[Value, ...]) -> list[Value]:
            word = self.load(self.a, i)
            self.store(self.a, carried[0], word)
            top = f.lshr(word[0], s.key_bits - s.select + (32 if s.packed else 0))
            return [f.iadd(carried[0], f.cast("zext", f.icmp("ult", top, end), "i64"))]

        return f.loop(0, s.size, 1, [const(0, I64)], keep)[0]

    # ---- sorting

    def insertion(self, m: Value) -> list[Value]:
        """Sort m words where they are: each goes before all greater ones."""
        f = self.f

        def insert(i: Value, _: tuple[Value, ...]) -> None:
            word = self.load(self.a, i)

            def greater(carried: tuple[Value, ...]) -> Value:
                before = f.load(f.gep(self.a, f.iadd(carried[0], -1), I64), I64)
                return f.icmp("ugt", before, word[0])

            def move(carried: tuple[Value, ...]) -> list[Value]:
                below = f.iadd(carried[0], -1)
                self.store(self.a, carried[0], self.load(self.a, below))
                return [below]

            (place,) = f.while_([i], greater, move)
            self.store(self.a, place, word)

        f.loop(1, m, 1, [], insert)
        return [self.a]

    def by_digits(self, m: Value, *, counted: bool) -> list[Value]:
        """Sort m words by one digit after the other, back and forth between two copies; return where they end up."""
        f, s = self.f, self.s
        if not counted:
            self.clear(s.passes * BINS)

            def count(i: Value, _: tuple[Value, ...]) -> None:
                word = self.load(self.a, i)
                for digit in range(s.passes):
                    self.increment(f.iadd(self.digit_in(word, digit), digit * BINS))

            f.loop(0, m, 1, [], count)
        here: tuple[Value, ...] = (self.a, self.b)
        for digit in range(s.passes):
            here = self.by_digit(m, digit, here[0], here[1])
        return [here[0]]

    def by_digit(self, m: Value, digit: int, source: Value, target: Value) -> tuple[Value, ...]:
        """Sort by one digit, unless it is the same in all words; return where the words are, and the other copy."""
        f = self.f
        base = digit * BINS
        some = f.iadd(self.digit_in(self.load(source, const(0, I64)), digit), base)
        alike = f.cast("zext", f.load(f.gep(self.table, some, I32), I32), "i64")

        def start(k: Value, carried: tuple[Value, ...]) -> list[Value]:
            address = f.gep(self.table, k, I32)
            here = f.load(address, I32)
            f.store(carried[0], address)
            return [f.add(carried[0], here)]

        def move(i: Value, _: tuple[Value, ...]) -> None:
            word = self.load(source, i)
            self.store(target, self.increment(f.iadd(self.digit_in(word, digit), base)), word)

        def sort() -> list[Value]:
            f.loop(base, base + BINS, 1, [const(0, I32)], start)
            f.loop(0, m, 1, [], move)
            return [target, source]

        return f.if_(f.icmp("eq", alike, m), lambda: [source, target], sort)

    # ---- results

    def give(self, t: Value, start: Value, words: Value, i: Value) -> None:
        """Write the i-th value and its position."""
        f, s = self.f, self.s
        word = self.load(words, i)
        position = f.and_(word[0], 0xFFFFFFFF) if s.packed else f.cast("zext", word[1], "i64")
        where = f.iadd(f.imul(t, s.count), i)
        values, positions = self.results
        if values is not None:
            value = f.load(f.gep(self.source, f.iadd(start, position), self.element), self.element)
            f.store(value, f.gep(values, where, self.element))
        if positions is not None:
            f.store(position, f.gep(positions, where, I64))


INFINITY = {"float16": 0x7C00, "bfloat16": 0x7F80, "float32": 0x7F800000, "float64": 0x7FF0000000000000}
