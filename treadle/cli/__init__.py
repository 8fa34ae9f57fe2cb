"""The `treadle` command. Each file is one subcommand; `main.py` gathers them and turns errors into one message."""

from .main import main

__all__ = ["main"]
