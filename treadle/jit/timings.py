"""Where the time of compiling goes, and how many kernels had to be compiled at all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Timings:
    """Seconds spent on each stage of compiling.

    Attributes:
        seconds: by stage, in order.
        compiled: kernels whose object code was made.
        cached: those read from the disk instead.
        loaded: those that this process had already.
    """

    seconds: dict[str, float] = field(default_factory=dict[str, float])
    compiled: int = 0
    cached: int = 0
    loaded: int = 0

    def add(self, stage: str, since: float) -> float:
        """Add the time since `since` to a stage; return the time now."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - since
        return now

    def join(self, parts: Sequence[Timings], took: float) -> None:
        """Add what was done on several threads at once and took so many seconds in all, shared out by stage."""
        spent: dict[str, float] = {}
        for part in parts:
            self.compiled += part.compiled
            self.cached += part.cached
            for stage, seconds in part.seconds.items():
                spent[stage] = spent.get(stage, 0.0) + seconds
        for stage, seconds in spent.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + took * seconds / sum(spent.values())
