"""A job for tests of benchmarks/turns.py, in a module that is quick to import: each process does so."""

from __future__ import annotations

from collections.abc import Callable


def job(name: str, turn: Callable[[], None]) -> str:
    """The name in capitals; "b" fails when it is its turn."""
    turn()
    if name == "b":
        raise SystemExit(3)
    return name.upper()
