"""Passes over graphs of tensor ops: pure functions from graph to graph. Open `fuse.py` for the one that matters most."""
