"""A layer of one's own in 30 lines: parameters are attributes, `forward` the formula, gradients come by themselves."""

import math

import numpy as np

import treadle as td
from treadle import nn, optim


class Linear(nn.Module):
    """y = x W^T + b."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True):
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(td.random.uniform((outputs, inputs)) * 2 * bound - bound)
        self.bias = nn.Parameter(td.zeros(outputs)) if bias else None

    def forward(self, x):
        y = x @ self.weight.mT
        return y if self.bias is None else y + self.bias


td.manual_seed(0)
own, library = Linear(8, 4), nn.Linear(8, 4)
library.load_state_dict(own.state_dict())

x = td.random.normal((16, 8))
assert np.array_equal(own(x).numpy(), library(x).numpy())  # the same ops, so the same kernels and the same bits
for layer in (own, library):
    (layer(x) ** 2).sum().backward()
assert np.array_equal(own.weight.grad.numpy(), library.weight.grad.numpy())

wanted = td.random.normal((4, 8))
opt = optim.SGD(own.parameters(), lr=0.1)


@td.compile
def step(x):
    loss = nn.functional.mse_loss(own(x), x @ wanted.mT)
    opt.zero_grad()
    loss.backward()
    opt.step()
    return loss


for i in range(200):
    loss = step(td.random.normal((64, 8)))
    if i % 40 == 0:
        print(f"step {i:3}  loss {float(loss):.5f}")
print(f"largest error of a weight: {float(abs(own.weight - wanted).max()):.1e}")
assert float(abs(own.weight - wanted).max()) < 1e-2
