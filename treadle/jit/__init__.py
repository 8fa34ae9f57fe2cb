"""Where the stack is put together: tracing, passes, kernels, memory and tasks make a Plan. Open `plan.py` first."""

from .compile import Compiled, compile, execute, recorded_plans
from .hooks import Explained, Hooks
from .plan import Plan
from .stages import Stages, named_kernels

__all__ = ["Compiled", "Explained", "Hooks", "Plan", "Stages", "compile", "execute", "named_kernels", "recorded_plans"]
