"""Gradients. Open `reverse.py` first: gradients of programs; `functions.py` and `backward.py` offer that on tensors."""

from .backward import backward
from .functions import grad, jvp, stop_gradient, value_and_grad, vjp
from .reverse import variables_of, vjp_nodes
from .scan import scan_vjp

__all__ = ["backward", "grad", "jvp", "scan_vjp", "stop_gradient", "value_and_grad", "variables_of", "vjp", "vjp_nodes"]
