"""What the compiler made of a function, and what that costs: `explain`."""

from .report import Report, explain

__all__ = ["Report", "explain"]
