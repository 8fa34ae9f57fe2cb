"""What training shows while it runs: a live panel on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

SECONDS_BETWEEN_LINES = 10.0
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Status:
    """Where training stands; `steps` is 0 while it is not known yet."""

    step: int = 0
    steps: int = 0
    loss: float = float("nan")
    validation: float = float("nan")
    lr: float = 0.0
    tokens_per_second: float = 0.0
    seconds_left: float | None = None


class Progress:
    """Shows a Status. Enter it around the loop, `show` after each step."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._live: Live | None = None
        self._shown = 0.0

    def __enter__(self) -> Progress:
        # A dumb terminal cannot move the cursor: it gets lines, like a file.
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """Print a line above the panel."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def show(self, status: Status, *, now: bool = False) -> None:
        """Show where training stands, if the last time is long enough ago or `now`."""
        clock = time.monotonic()
        pause = 0.25 if self._live is not None else SECONDS_BETWEEN_LINES
        if clock - self._shown < pause and not now:
            return
        self._shown = clock
        if self._live is not None:
            self._live.update(panel(status))
        else:
            self.say("  ".join(f"{name} {value}" for name, value in fields(status)))


def fields(status: Status) -> list[tuple[str, str]]:
    """Return what is shown, as names and texts."""
    return [
        ("step", f"{status.step}/{status.steps or '?'}"),
        ("loss", _number(status.loss)),
        ("val loss", _number(status.validation)),
        ("tokens/s", f"{status.tokens_per_second:,.0f}"),
        ("left", "?" if status.seconds_left is None else duration(status.seconds_left)),
        ("memory", f"{resident_bytes() / 1e6:.0f} MB"),
    ]


def panel(status: Status) -> Table:
    """Return the live panel: a row of figures over a bar."""
    table = Table.grid(padding=(0, 2))
    for name, value in fields(status):
        table.add_column(justify="left", min_width=max(len(name), len(value), 8))
    table.add_row(*[f"[dim]{name}[/dim]" for name, _ in fields(status)])
    table.add_row(*[f"[bold]{value}[/bold]" for _, value in fields(status)])
    outer = Table.grid()
    outer.add_row(table)
    outer.add_row(ProgressBar(total=status.steps or None, completed=status.step, pulse=not status.steps, width=72))
    return outer


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def duration(seconds: float) -> str:
    """Return a length of time as 45s, 3m 05s or 2h 07m."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def resident_bytes() -> int:
    """Return the memory the process occupies now."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0
