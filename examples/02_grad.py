"""Gradients: as functions, of any order, and the PyTorch way with backward()."""

import numpy as np

import treadle as td


def f(x):
    return (x**3 - 2 * x + td.sin(x)).sum()


x = td.asarray([0.5, 1.0, 2.0])
print("value and gradient:", *td.value_and_grad(f)(x))
print("3 x^2 - 2 + cos(x):", 3 * x**2 - 2 + td.cos(x))

# A gradient is a function like any other, so it has one, too.
second = td.grad(lambda v: td.grad(f)(v).sum())
print("second derivative :", second(x))
print("6 x - sin(x)      :", 6 * x - td.sin(x))

# Newton's method in one compiled function: the gradients are part of the program.
slope = td.grad(f)


@td.compile
def newton(v):
    return v - slope(v) / second(v)


point = td.asarray([1.0])
for _ in range(6):
    point = newton(point)
print("minimum           :", point, "slope there", slope(point), "compiled", newton.num_compiles, "time")

# The PyTorch way: leaves collect what backward() finds.
w = td.asarray([[1.0, -2.0]]).requires_grad_()
loss = ((td.asarray(np.eye(2, dtype=np.float32)) @ w.T) ** 2).sum()
loss.backward()
print("w.grad            :", w.grad)
