"""Random programs. Values are small whole numbers, which every dtype holds exactly: results must agree bit for bit.

`Maker` grows a program one op at a time from a source of choices (a `random.Random`, or Hypothesis's). It keeps a bound
on the magnitude of every value and clips before a dtype could round, so the order of sums does not matter either.
"""

from __future__ import annotations

import math
from random import Random

import numpy as np

import treadle as td
import treadle.nn.functional
from treadle import Tensor

FLOATS = (td.float32, td.float64, td.float16, td.bfloat16)
INTEGERS = (td.int32, td.int64, td.int8, td.uint8)
LIMIT = {"f32": 2**20, "f64": 2**40, "f16": 1000, "bf16": 120, "i32": 2**28, "i64": 2**50, "i8": 60, "u8": 120, "b1": 1}
SIZES = (0, 1, 1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 33, 64, 65, 130)
MOST = 6000  # elements of a value


class Maker:
    """Values made so far, and the ops that make more."""

    def __init__(self, choices: Random) -> None:
        self.random = choices
        self.sizes = [self.random.choice(SIZES) for _ in range(3)]
        self.values: list[Tensor] = []
        self.bounds: dict[int, int] = {}
        dtype = self.random.choice(FLOATS)
        self.dtypes = [dtype, dtype, self.random.choice((*FLOATS, *INTEGERS, td.bool))]
        for _ in range(self.random.randint(2, 4)):
            self.leaf(self.random.choice(self.dtypes), self.shape())

    def shape(self) -> tuple[int, ...]:
        """A random shape of few sizes, so that operands often fit each other."""
        shape = [self.random.choice((*self.sizes, 1)) for _ in range(self.random.randint(0, 4))]
        while math.prod(shape) > MOST:
            shape.remove(max(shape))
        return tuple(shape)

    def leaf(self, dtype: object, shape: tuple[int, ...], bound: int = 3) -> Tensor:
        """Data of whole numbers from -bound (0 for those without a sign) to bound."""
        signed = getattr(dtype, "kind", "") in ("int", "float")
        seed = self.random.randint(0, 99)
        array = np.random.default_rng(seed).integers(-bound if signed else 0, bound + 1, shape)
        if dtype is td.bool:
            array, bound = array % 2, 1
        return self.add(td.asarray(np.asarray(array).astype(dtype.numpy)), bound)

    def add(self, value: Tensor, bound: int) -> Tensor:
        """Keep a value, clipped if it could get too large to be exact."""
        if value.dtype is td.bool:
            bound = 1
        elif bound > LIMIT[value.dtype.short] or (bound > 9 and self.random.random() < 0.2):
            low = 0 if value.dtype.kind == "uint" else -2
            value, bound = td.clip(value, low, 2), 2
        self.values.append(value)
        self.bounds[id(value)] = bound
        return value

    def pick(self, *kinds: str, ndim: int = 0) -> Tensor:
        """A value of one of these kinds of dtype with at least `ndim` axes; a new one if there is none."""
        fit = [v for v in self.values if (not kinds or v.dtype.kind in kinds) and v.ndim >= ndim]
        if fit:
            return self.random.choice(fit[-6:])
        dtype = {"bool": td.bool, "int": td.int32, "uint": td.uint8}.get((*kinds, "")[0], td.float32)
        return self.leaf(dtype, tuple(self.random.choice(self.sizes) for _ in range(min(ndim, 3)))[:3])

    def bound(self, value: Tensor) -> int:
        """The largest magnitude an element may have."""
        return self.bounds[id(value)]

    def like(self, x: Tensor) -> Tensor:
        """A value of the same dtype that broadcasts with x: one there is, or a part of x's shape made anew."""
        if self.random.random() < 0.7:
            for other in reversed(self.values[:-1]):
                if other.dtype is x.dtype and other is not x and fits(other.shape, x.shape):
                    return other
        shape = [s if self.random.random() < 0.6 else 1 for s in x.shape]
        return self.leaf(x.dtype, tuple(shape[self.random.randint(0, len(shape)) :]))

    def step(self) -> None:
        """Add the value of one more op."""
        ops = [
            self.elementwise, self.elementwise, self.elementwise, self.compare, self.cast, self.reduce, self.reduce,
            self.arg, self.reshape, self.permute, self.slice, self.pad, self.concat, self.broadcast, self.take,
            self.matmul, self.along, self.triangle, self.scatter, self.order, self.running, self.repeat, self.logic,
            self.quotient, self.choose, self.put, self.convolve, self.diagonal,
        ]  # fmt: skip
        self.random.choice(ops)()

    def elementwise(self) -> None:
        x = self.pick("float", "int", "uint")
        y = self.like(x)
        a, b = self.bound(x), self.bound(y)
        match self.random.randint(0, 7):
            case 0:
                self.add(x + y, a + b)
            case 1 if x.dtype.kind != "uint":
                self.add(x - y, a + b)
            case 2:
                self.add(x * y, a * b)
            case 3:
                self.add(td.maximum(x, y), max(a, b))
            case 4:
                self.add(td.minimum(x, y), max(a, b))
            case 5 if x.dtype.kind != "uint":
                self.add(td.abs(x) - 1, a + 1)
            case 6:
                self.add(td.where(x > 1, x, y), max(a, b))
            case _:
                self.add(x * 2 + 1, 2 * a + 1)
        if math.prod(self.values[-1].shape) > MOST:
            self.values.pop()

    def compare(self) -> None:
        x = self.pick("float", "int", "uint")
        y = self.like(x)
        self.add(self.random.choice((td.equal, td.less, td.greater_equal))(x, y), 1)

    def cast(self) -> None:
        x = self.pick()
        to = self.random.choice(self.dtypes)
        if self.bound(x) < LIMIT[to.short] and not (to.kind == "uint" and x.dtype.kind != "bool"):
            self.add(x.astype(to), self.bound(x))

    def axes(self, x: Tensor) -> tuple[int, ...] | None:
        if self.random.random() < 0.2:
            return None
        return tuple(sorted(self.random.sample(range(x.ndim), self.random.randint(0, x.ndim))))

    def reduce(self) -> None:
        x = self.pick("float", "int", "bool")
        axes, keepdims = self.axes(x), self.random.random() < 0.5
        count = math.prod(x.shape if axes is None else [x.shape[a] for a in axes])
        kind = self.random.randint(0, 3)
        if x.dtype is td.bool:
            self.add((td.any if kind < 2 else td.all)(x, axis=axes, keepdims=keepdims), 1)
        elif kind < 2 or not count:
            if self.bound(x) * max(count, 1) > LIMIT[x.dtype.short]:
                x = self.add(td.where(x > 0, td.ones_like(x), td.zeros_like(x)), 1)
                if count > LIMIT[x.dtype.short]:
                    return
            self.add(td.sum(x, axis=axes, keepdims=keepdims, dtype=x.dtype), self.bound(x) * max(count, 1))
        else:
            self.add((td.max if kind == 2 else td.min)(x, axis=axes, keepdims=keepdims), self.bound(x))

    def arg(self) -> None:
        x = self.pick("float", "int", ndim=1)
        axis = self.random.randrange(x.ndim)
        if x.shape[axis]:
            self.add((td.argmax if self.random.random() < 0.5 else td.argmin)(x, axis=axis), max(x.shape[axis], 1))

    def reshape(self) -> None:
        x = self.pick(ndim=1)
        options = [(x.size,), (1, x.size), (x.size, 1)]
        if x.ndim > 1:
            options.append((*x.shape[:-2], x.shape[-1] * x.shape[-2]))
            options += [(x.shape[0], x.size // x.shape[0])] if x.shape[0] else []
        options += [(d, x.size // d) for d in (2, 3, 4) if x.size % d == 0]
        self.add(td.reshape(x, self.random.choice(options)), self.bound(x))

    def permute(self) -> None:
        x = self.pick(ndim=2)
        axes = list(range(x.ndim))
        self.random.shuffle(axes)
        self.add(td.permute_dims(x, tuple(axes)), self.bound(x))

    def slice(self) -> None:
        x = self.pick(ndim=1)
        key: list[slice | int | None] = []
        for size in x.shape:
            a, b = sorted((self.random.randint(0, size), self.random.randint(0, size)))
            match self.random.randint(0, 4):
                case 0:
                    key.append(slice(a, b))
                case 1:
                    key.append(slice(None, None, self.random.choice((2, 3, -1, -2))))
                case 2 if size:
                    key.append(self.random.randrange(size))
                case _:
                    key.append(slice(None))
        if self.random.random() < 0.2:
            key.insert(self.random.randint(0, len(key)), None)
        self.add(x[tuple(key)], self.bound(x))

    def pad(self) -> None:
        x = self.pick("float", "int", ndim=1)
        widths = [(self.random.randint(0, 2), self.random.randint(0, 3)) for _ in x.shape]
        if math.prod(s + a + b for s, (a, b) in zip(x.shape, widths, strict=True)) <= MOST:
            self.add(td.pad(x, widths, value=self.random.choice((0, 1))), max(1, self.bound(x)))

    def concat(self) -> None:
        x = self.pick(ndim=1)
        axis = self.random.randrange(x.ndim)
        y = self.leaf(x.dtype, tuple(self.random.choice((1, 3)) if a == axis else s for a, s in enumerate(x.shape)))
        parts = self.random.choice(([x, y], [y, x], [x, x], [x, y, x]))
        if sum(p.size for p in parts) <= MOST:
            self.add(td.concat(parts, axis=axis), max(self.bound(x), self.bound(y)))

    def broadcast(self) -> None:
        x = self.pick()
        shape = [self.random.choice(self.sizes) if s == 1 else s for s in x.shape]
        if self.random.random() < 0.5:
            shape.insert(0, self.random.choice(self.sizes))
        if math.prod(shape) <= MOST:
            self.add(td.broadcast_to(x, tuple(shape)), self.bound(x))

    def positions(self, size: int, shape: tuple[int, ...]) -> Tensor:
        """Integers from -size to size - 1."""
        array = np.random.default_rng(self.random.randint(0, 99)).integers(-size, size, shape)
        return td.asarray(array.astype(self.random.choice((np.int32, np.int64))))

    def take(self) -> None:
        x = self.pick(ndim=1)
        axis = self.random.randrange(x.ndim)
        shape = self.random.choice(((), (1,), (5,), (2, 3), (0,)))
        if x.shape[axis] and x.size // x.shape[axis] * math.prod(shape) <= MOST:
            where = self.positions(x.shape[axis], shape)
            by_index = x[(slice(None),) * axis + (where,)]
            self.add(td.take(x, where, axis=axis) if len(shape) == 1 else by_index, self.bound(x))

    def along(self) -> None:
        x = self.pick(ndim=1)
        axis = self.random.randrange(x.ndim)
        if x.shape[axis]:
            shape = tuple(self.random.choice((1, 2, 9)) if a == axis else s for a, s in enumerate(x.shape))
            if math.prod(shape) <= MOST:
                self.add(td.take_along_axis(x, self.positions(x.shape[axis], shape), axis=axis), self.bound(x))

    def scatter(self) -> None:
        x = self.pick("float", "int", ndim=1)
        count = self.random.choice((1, 2, 6))
        if x.shape[0] and count * (x.size // x.shape[0]) <= MOST:
            y = self.leaf(x.dtype, (count, *x.shape[1:]))
            self.add(x.at[self.positions(x.shape[0], (count,))].add(y), self.bound(x) + count * self.bound(y))

    def order(self) -> None:
        x = self.pick("float", "int", "uint", ndim=1)
        axis, descending = self.random.randrange(x.ndim), self.random.random() < 0.3
        if x.shape[axis] and self.random.random() < 0.5:
            self.add(td.argsort(x, axis=axis, descending=descending), x.shape[axis])
        else:
            self.add(td.sort(x, axis=axis, descending=descending), self.bound(x))

    def running(self) -> None:
        x = self.pick("float", "int", ndim=1)
        axis = self.random.randrange(x.ndim)
        bound = self.bound(x) * max(x.shape[axis], 1)
        if bound <= LIMIT[x.dtype.short]:
            self.add(td.cumulative_sum(x, axis=axis, dtype=x.dtype), bound)
        elif x.shape[axis]:
            self.add((td.cummax if self.random.random() < 0.5 else td.cummin)(x, axis).values, self.bound(x))

    def repeat(self) -> None:
        x = self.pick(ndim=1)
        axis, count = self.random.randrange(x.ndim), self.random.choice((1, 2, 3))
        match self.random.randint(0, 3):
            case 0:
                self.add(td.roll(x, self.random.randint(-5, 5), axis=axis), self.bound(x))
            case 1:
                self.add(td.flip(x, axis=axis), self.bound(x))
            case 2 if x.size * count <= MOST:
                self.add(td.stack([x] * count, axis=self.random.randint(0, x.ndim)), self.bound(x))
            case _ if x.size * count <= MOST:
                self.add(td.repeat(x, count, axis=axis), self.bound(x))
            case _:
                pass

    def logic(self) -> None:
        x = self.pick("bool", "int", "uint")
        y = self.like(x)
        functions = (td.bitwise_and, td.bitwise_or, td.bitwise_xor)
        # Of numbers from -2**n to 2**n - 1, each gives one of these.
        bound = 1 << max(self.bound(x), self.bound(y)).bit_length()
        if math.prod(np.broadcast_shapes(x.shape, y.shape)) <= MOST:
            self.add(self.random.choice(functions)(x, y), bound)

    def quotient(self) -> None:
        x = self.pick("float", "int", "uint")
        by = self.random.choice((2, 3, 5) if x.dtype.kind == "uint" else (2, 3, -3, 5))
        function = td.remainder if x.dtype.kind == "float" or self.random.random() < 0.5 else td.floor_divide
        self.add(function(x, by), max(self.bound(x), 5))

    def choose(self) -> None:
        mask = self.pick("bool")
        x = self.pick("float", "int", "uint")
        if fits(mask.shape, x.shape):
            y = self.leaf(x.dtype, x.shape[1:])
            self.add(td.where(mask, x, y), max(self.bound(x), self.bound(y)))

    def put(self) -> None:
        """Elements set, or the larger kept, at places that differ or do not matter."""
        x = self.pick("float", "int", ndim=1)
        if not x.shape[0]:
            return
        if self.random.random() < 0.5:
            y = self.leaf(x.dtype, (4, *x.shape[1:]))
            if y.size <= MOST:
                where = self.positions(x.shape[0], (4,))
                self.add(
                    td.index_reduce(x, 0, td.remainder(where, x.shape[0]), y, "amax"), max(self.bound(x), self.bound(y))
                )
        else:
            y = self.leaf(x.dtype, x.shape[1:])
            self.add(x.at[self.random.randrange(x.shape[0])].set(y), max(self.bound(x), self.bound(y)))

    def convolve(self) -> None:
        """One image of up to three axes, taps of whole numbers."""
        x = self.pick("float", ndim=2)
        if not 2 <= x.ndim <= 3 or not x.size or x.shape[0] > 40:
            return
        channels, taps = x.shape[0], tuple(self.random.randint(1, min(s, 3)) for s in x.shape[1:])
        bound = self.bound(x) * 3 * channels * math.prod(taps)
        if bound > LIMIT[x.dtype.short]:
            x = self.add(td.clip(x, -1, 1), 1)
            bound = 3 * channels * math.prod(taps)
        if bound > LIMIT[x.dtype.short]:
            return
        weight = self.leaf(x.dtype, (self.random.choice((1, 2, 5, 17)), channels, *taps))
        function = td.nn.functional.conv1d if x.ndim == 2 else td.nn.functional.conv2d
        y = function(x, weight, stride=self.random.choice((1, 1, 2)), padding=self.random.choice((0, 1)))
        if y.size <= MOST:
            self.add(y, bound)

    def diagonal(self) -> None:
        x = self.pick(ndim=2)
        a, b = self.random.sample(range(x.ndim), 2)
        self.add(td.diagonal(x, self.random.randint(-1, 1), a, b), self.bound(x))

    def triangle(self) -> None:
        x = self.pick("float", "int", ndim=2)
        self.add((td.tril if self.random.random() < 0.5 else td.triu)(x, k=self.random.randint(-2, 2)), self.bound(x))

    def matmul(self) -> None:
        x = self.pick("float", "int", ndim=2)
        k = x.shape[-1]
        if self.bound(x) * 3 * max(k, 1) > LIMIT[x.dtype.short]:
            low = 0 if self.random.random() < 0.5 else -1
            x = self.add(td.clip(x, low, 1), 1)
            if 3 * k > LIMIT[x.dtype.short]:
                return
        n = self.random.choice((*self.sizes, 1, 9, 40))
        batch = self.random.choice(((), x.shape[:-2], tuple(1 for _ in x.shape[:-2])))
        if math.prod(x.shape[:-1]) * n > MOST or math.prod(batch) * k * n > 4 * MOST:
            return
        match self.random.randint(0, 3):
            case 0:
                y = self.leaf(x.dtype, (*batch, n, k)).mT
            case 1:
                y = self.leaf(x.dtype, (*batch, k, n + 3))[..., 2 : n + 2]
            case 2:
                y = self.leaf(x.dtype, (*batch, k, n))[..., ::-1, :]
            case _:
                y = self.leaf(x.dtype, (*batch, k, n))
        bound = self.bound(x) * 3 * max(k, 1)
        if self.random.random() < 0.3 and x.shape[-2] == k and self.bound(x) ** 2 * max(k, 1) <= LIMIT[x.dtype.short]:
            self.add(x @ x.mT, self.bound(x) ** 2 * max(k, 1))
        else:
            self.add(x @ y, bound)


def fits(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes broadcast, to at most a few thousand elements."""
    try:
        return math.prod(np.broadcast_shapes(shape, other)) <= MOST
    except ValueError:
        return False


def exact_program(choices: Random, length: int) -> list[Tensor]:
    """The results of a random program: its last value and some before it, not computed yet."""
    maker = Maker(choices)
    for _ in range(length):
        maker.step()
    fresh = [v for v in maker.values if not v.is_realized]
    others = choices.sample(fresh, min(len(fresh), choices.randint(0, 3)))
    return [*others, *fresh[-1:]]


class SmoothMaker(Maker):
    """Grows programs of differentiable functions on floats of one dtype; values stay near 1 so that errors do too."""

    def __init__(self, choices: Random, dtype: object) -> None:
        self.random = choices
        self.sizes = [self.random.choice((1, 2, 3, 5, 8, 17, 33)) for _ in range(3)]
        self.dtype = dtype
        self.values = []
        self.bounds = {}
        self.leaves = [self.normal(tuple(self.random.choice(self.sizes) for _ in range(2))) for _ in range(2)]
        self.values = [leaf.requires_grad_() for leaf in self.leaves]

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        array = np.random.default_rng(self.random.randint(0, 99)).standard_normal(shape)
        return td.asarray(array, dtype=self.dtype)

    def leaf(self, dtype: object, shape: tuple[int, ...], bound: int = 3) -> Tensor:
        return self.normal(shape)

    def add(self, value: Tensor, bound: int = 0) -> Tensor:
        self.values.append(value)
        self.bounds[id(value)] = 0
        return value

    def pick(self, *kinds: str, ndim: int = 0) -> Tensor:
        fit = [v for v in self.values if v.ndim >= ndim]
        return self.random.choice(fit[-4:]) if fit else self.values[0]

    def bound(self, value: Tensor) -> int:
        return 0

    def step(self) -> None:
        self.random.choice((
            self.elementwise, self.elementwise, self.elementwise, self.mean, self.reshape, self.permute, self.slice,
            self.pad, self.concat, self.take, self.product, self.softmax, self.layer_norm, self.cross_entropy,
            self.triangle, self.most,
        ))()  # fmt: skip

    def elementwise(self) -> None:
        x = self.pick()
        y = self.like(x)
        functions = (
            lambda: td.tanh(x + y), lambda: td.sigmoid(x) * y, lambda: td.exp(-x * x) + y, lambda: x - 0.5 * y,
            lambda: td.sqrt(x * x + 1) - y, lambda: td.log1p(x * x) * 0.5, lambda: td.sin(x) * td.cos(y),
            lambda: td.erf(x), lambda: x / (y * y + 1), lambda: td.where(x > 0, x, 0.1 * y),
            lambda: td.nn.functional.gelu(x),
        )  # fmt: skip
        value = self.random.choice(functions)()
        if value.size <= MOST:
            self.add(value)

    def mean(self) -> None:
        x = self.pick()
        kind = self.random.choice((td.mean, td.var, td.mean)) if x.size else td.sum
        self.add(kind(x, axis=self.axes(x), keepdims=self.random.random() < 0.5))

    def most(self) -> None:
        x = self.pick()
        if x.size:
            self.add(td.max(x, axis=self.axes(x), keepdims=self.random.random() < 0.5))

    def product(self) -> None:
        x = self.pick(ndim=2)
        k, n = x.shape[-1], self.random.choice((*self.sizes, 40))
        if not k or x.size // k * n > MOST:
            return
        y = self.normal((n, k)).mT if self.random.random() < 0.5 else self.normal((k, n))
        self.add(x @ y * (1 / math.sqrt(k)) if self.random.random() < 0.5 else td.tanh(x @ y + 0.5))

    def softmax(self) -> None:
        x = self.pick(ndim=1)
        axis = self.random.randrange(x.ndim)
        if x.shape[axis]:
            self.add(self.random.choice((td.softmax, td.log_softmax))(x, axis=axis))

    def layer_norm(self) -> None:
        x = self.pick(ndim=1)
        if x.shape[-1] > 2:
            n = x.shape[-1]
            self.add(td.nn.functional.layer_norm(x, (n,), self.normal((n,)), self.normal((n,)), eps=0.1))

    def cross_entropy(self) -> None:
        x = self.pick(ndim=1)
        if x.size and x.ndim == 2:
            self.add(td.nn.functional.cross_entropy(x, td.asarray(np.arange(x.shape[0]) % x.shape[1])))


def smooth_program(choices: Random, dtype: object, length: int) -> list[Tensor]:
    """The loss of a random differentiable program and its gradients, not computed yet."""
    maker = SmoothMaker(choices, dtype)
    for _ in range(length):
        maker.step()
    used = [v for v in maker.values[2:] if v.size and v.requires_grad][-3:]
    loss = sum((td.mean(td.tanh(v)) for v in used), start=td.sum(maker.leaves[0] * 0.01))
    loss.backward()
    return [loss.detach(), *[leaf.grad for leaf in maker.leaves if leaf.grad is not None]]
