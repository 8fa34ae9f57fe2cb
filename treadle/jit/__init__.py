"""Where the stack is put together: tracing, passes, kernels, memory and tasks make a Plan. Open `plan.py` first."""

from .compile import Compiled, compile, execute
from .plan import Plan

__all__ = ["Compiled", "Plan", "compile", "execute"]
