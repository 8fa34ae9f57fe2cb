"""Tensors: NumPy's names, lazy, immutable, compiled when their numbers are asked for."""

import numpy as np

import treadle as td

x = td.asarray(np.arange(12, dtype=np.float32).reshape(3, 4))
y = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
print("nothing is computed yet:", y.is_realized)
print(y)
print("now it is:", y.is_realized)

# Indexing, broadcasting and promotion are the array API's.
print(x[1:, ::2])
print(td.where(x > 5, x, -x).sum(axis=0))
print((td.asarray([1, 2, 3]) + 0.5).dtype, (x.astype("bfloat16") + x).dtype)

# Tensors do not change; `at` gives a changed copy.
print(x.at[0].set(0.0)[0], x[0])

# Results go to NumPy without a copy, and to any library that reads DLPack.
print(np.asarray(y).sum(), np.from_dlpack(x).shape)

# A mistake names the values, what is allowed and what to do.
try:
    x + td.ones((2, 4))
except td.ShapeError as error:
    print(error)

# The program behind a tensor is data that can be printed.
print((x * 2 + 1).node)
