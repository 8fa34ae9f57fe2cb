"""The `treadle` command. Open `main.py` first: it gathers the subcommands, a file each, and words errors."""

from .main import main

__all__ = ["main"]
