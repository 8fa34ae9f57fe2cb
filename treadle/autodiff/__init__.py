"""Gradients. Open `reverse.py` first: gradients of programs; `functions.py` and `backward.py` offer that on tensors."""

from .backward import backward
from .functions import grad, jvp, stop_gradient, value_and_grad, vjp
from .reverse import variables_of, vjp_nodes

__all__ = ["backward", "grad", "jvp", "stop_gradient", "value_and_grad", "variables_of", "vjp", "vjp_nodes"]
