"""What the compiler made of a function, and what that costs: `explain`. Open `explanation.py` first."""

from .decisions import DecisionReport
from .explanation import Explanation, explain
from .kernels import KernelReport
from .memory import LiveBlocks, MemoryReport
from .pictures import plot_attention, plot_confusion, plot_history
from .places import Place
from .report import PassReport
from .threads import ScheduleReport, ThreadReport

__all__ = [
    "DecisionReport",
    "Explanation",
    "KernelReport",
    "LiveBlocks",
    "MemoryReport",
    "PassReport",
    "Place",
    "ScheduleReport",
    "ThreadReport",
    "explain",
    "plot_attention",
    "plot_confusion",
    "plot_history",
]
