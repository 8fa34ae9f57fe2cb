"""Where the stack is put together: tracing, passes, kernels, memory and tasks make a Plan. Open `plan.py` first."""

from .compile import Compiled, compile, recorded_plans
from .eager import execute
from .hooks import Explained, Hooks
from .plan import Plan
from .stages import FORMS, Stages, named_kernels

__all__ = [
    "FORMS",
    "Compiled",
    "Explained",
    "Hooks",
    "Plan",
    "Stages",
    "compile",
    "execute",
    "named_kernels",
    "recorded_plans",
]
