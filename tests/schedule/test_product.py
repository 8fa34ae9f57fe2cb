"""Products of views with what follows them: sliced, reversed, transposed, broadcast operands; any epilogue."""

from collections.abc import Callable

import numpy as np
import pytest

import treadle as td
from tests.reference import evaluate
from treadle.core import config
from treadle.jit import Plan
from treadle.tensor import lift


def data(*shape: int, dtype: str = "float32") -> td.Tensor:
    return td.asarray(np.random.default_rng(sum(shape)).integers(-2, 3, shape).astype(dtype))


OPERANDS: dict[str, Callable[[], tuple[td.Tensor, td.Tensor]]] = {
    "plain": lambda: (data(33, 17), data(17, 40)),
    "transposed": lambda: (data(17, 33).mT, data(40, 17).mT),
    "sliced": lambda: (data(40, 20)[3:36, 1:18], data(20, 80)[2:19, ::2]),
    "reversed": lambda: (data(33, 17)[::-1, ::-1], data(17, 40)[::-1]),
    "parts of one": lambda: (data(3, 33, 17)[0], data(3, 33, 17)[2].mT),
    "itself": lambda: (data(33, 17), data(33, 17).mT),
    "broadcast batch": lambda: (data(2, 1, 9, 5), data(3, 5, 7)),
    "heads": lambda: (td.swapaxes(data(2, 9, 3, 8), 1, 2), td.permute_dims(data(2, 9, 3, 8), (0, 2, 3, 1))),
    "one row": lambda: (data(1, 70), data(70, 33)),
    "one column": lambda: (data(33, 70), data(70, 1)),
    "expanded": lambda: (td.broadcast_to(data(1, 17), (33, 17)), data(17, 40)),
    "nothing to sum": lambda: (data(5, 0), data(0, 6)),
}

EPILOGUES: dict[str, Callable[[td.Tensor], tuple[td.Tensor, ...]]] = {
    "none": lambda y: (y,),
    "bias": lambda y: (td.maximum(y + data(y.shape[-1], dtype="float32").astype(y.dtype), 0),),
    "two results": lambda y: (y, y * 2 + data(*y.shape[-2:]).astype(y.dtype)),
    "rows": lambda y: (td.sum(y, axis=-1), td.max(y, axis=-2)),
    "turned": lambda y: (y.mT + 1, y),
    "reshaped": lambda y: (td.reshape(y + 1, (-1,)),),
}


@pytest.mark.parametrize("epilogue", EPILOGUES)
@pytest.mark.parametrize("name", OPERANDS)
def test_products_are_exact(name: str, epilogue: str) -> None:
    a, b = OPERANDS[name]()
    for k, dtype in enumerate(("float32", "float64", "bfloat16", "int32")):
        graph, arrays = lift([t.node for t in EPILOGUES[epilogue](a.astype(dtype) @ b.astype(dtype))])
        with config(cpu=("avx2", "avx512")[(k + len(name)) % 2], threads=1 + k % 3):
            got = Plan(graph).run(arrays)
        for result, want in zip(got, evaluate(graph, arrays), strict=True):
            np.testing.assert_array_equal(result.astype(np.float64), want.astype(np.float64))
