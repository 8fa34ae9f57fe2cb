"""A model layer by layer: shapes, parameters and arithmetic, without running it (tensors are lazy)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import StringIO
from typing import Any, cast

from rich.console import Console
from rich.table import Table

from treadle.core import flatten
from treadle.ir import Node, topological
from treadle.tensor import Tensor, set_grad_enabled
from treadle.tensor.creation import zeros

from .module import Module
from .parameter import Parameter

LEAF_KERNELS = ("matmul", "conv")


@dataclass(frozen=True)
class Row:
    """One call of a module.

    Attributes:
        path: where the module is in the model; "" is the model itself.
        kind: its class.
        shapes: of what the call returned.
        parameters: elements of the parameters the module holds itself, not those of modules in it.
    """

    path: str
    kind: str
    shapes: tuple[tuple[int, ...], ...]
    parameters: int


@dataclass(frozen=True)
class Summary:
    """What `summary` found; printing it shows a table.

    Attributes:
        rows: one for each call of a module, in the order the calls ended.
        parameters: elements of all parameters, a tied one once.
        trainable: those of them that collect gradients.
        nbytes: bytes of all parameters and buffers.
        flops: of the matrix products and convolutions of one forward pass, a multiply-add being two.
    """

    rows: tuple[Row, ...]
    parameters: int
    trainable: int
    nbytes: int
    flops: int

    def __str__(self) -> str:
        console = Console(file=StringIO(), width=110, color_system=None)
        console.print(self.__rich__())
        assert isinstance(console.file, StringIO)
        return console.file.getvalue().rstrip("\n")

    def __rich__(self) -> Table:
        """Return the table."""
        table = Table("layer", "kind", "output", title_justify="left", box=None, pad_edge=False)
        table.add_column("parameters", justify="right")
        for row in self.rows:
            shapes = ", ".join("x".join(map(str, s)) or "scalar" for s in row.shapes)
            table.add_row(row.path or "(model)", row.kind, shapes, f"{row.parameters:,}" if row.parameters else "")
        table.caption = (
            f"{self.parameters:,} parameters ({self.trainable:,} trainable), {self.nbytes / 1e6:.2f} MB; "
            f"{self.flops / 1e9:.3g} GFLOP in products of one forward pass"
        )
        table.caption_justify = "left"
        return table


def summary(model: Module, *inputs: Any) -> Summary:
    """Return what a model does with inputs, layer by layer.

    Args:
        model: looked at as in inference; nothing in it is changed.
        inputs: what `model` is called with; a shape, a tuple of ints, stands for float32 zeros of it.
    """
    arguments = [zeros(given) if _is_shape(given) else given for given in inputs]
    rows: list[Row] = []
    modes = [(module, module.training) for module in model.modules()]
    handles = [module.register_forward_hook(_recorder(path, rows)) for path, module in model.named_modules()]
    try:
        model.eval()
        with set_grad_enabled(False):
            result = model(*arguments)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    cells = [cell for _, cell in model.named_cells()]
    parameters = [cell for cell in cells if isinstance(cell, Parameter)]
    outputs = [leaf.node for leaf in flatten(result)[0] if isinstance(leaf, Tensor)]
    return Summary(
        tuple(rows),
        sum(p.size for p in parameters),
        sum(p.size for p in parameters if p.requires_grad),
        sum(cell.size * cell.dtype.itemsize for cell in cells),
        sum(flops_of(node) for node in topological(outputs)),
    )


def flops_of(node: Node) -> int:
    """Return the arithmetic of a product, twice its multiply-adds; 0 for other ops."""
    kernel = getattr(node.op, "kernel", "")
    if kernel == "matmul":
        return 2 * node.type.size * node.args[0].shape[-1]
    if kernel == "conv":  # each result folds a kernel's worth of one group's channels
        return 2 * node.type.size * math.prod(node.args[1].shape[:-1])
    if kernel == "attention":
        q, k = node.args[:2]
        return 4 * math.prod(q.shape) * k.shape[-2]
    return 0


def _recorder(path: str, rows: list[Row]) -> Any:
    def record(module: Module, _: tuple[Any, ...], result: Any) -> None:
        shapes = tuple(tuple(leaf.shape) for leaf in flatten(result)[0] if isinstance(leaf, Tensor))
        own = sum(value.size for value in vars(module).values() if isinstance(value, Parameter))
        rows.append(Row(path, type(module).__name__, shapes, own))

    return record


def _is_shape(given: object) -> bool:
    return isinstance(given, tuple) and all(isinstance(size, int) for size in cast(tuple[object, ...], given))
