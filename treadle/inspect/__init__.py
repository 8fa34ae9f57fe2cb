"""What the compiler made of a function, and what that costs: `explain`. Open `explanation.py` first."""

from .decisions import DecisionReport
from .explanation import Explanation, PassReport, explain
from .kernels import KernelReport
from .memory import LiveBlock, MemoryReport
from .places import Place
from .threads import ScheduleReport, ThreadReport

__all__ = [
    "DecisionReport",
    "Explanation",
    "KernelReport",
    "LiveBlock",
    "MemoryReport",
    "PassReport",
    "Place",
    "ScheduleReport",
    "ThreadReport",
    "explain",
]
