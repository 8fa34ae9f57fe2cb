"""Runs plans: memory (`storage`, `arena`), the static schedule (`tasks`), threads (`pool`), time stamps (`profile`).

Open `program.py` first: it ties them together.
"""
