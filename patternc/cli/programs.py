"""From the arguments of a command to a compiled pattern and its size."""

from __future__ import annotations

import math
from typing import Any

import click

from patternc import ir, loader
from patternc.checker import check
from patternc.cli.inputs import open_file
from patternc.cli.options import Choice
from patternc.compiler import Compiled, compile
from patternc.errors import SpatError
from patternc.library import Library
from patternc.specialise import specialise

DEFAULT_LENGTH = 16_384
"""Tokens; the length at which the patterns of the library, with their own defaults, show what they are."""
_ARGUMENTS = ("source", "pattern", "heads", "kv_heads", "layer", "backend")


def open_library(name: str) -> Library:
    """The patterns of a file. Raises SpatError with all its errors."""
    module = loader.load(open_file(name))
    errors = [d for d in (*module.diagnostics, *check(module)) if d.severity == "error"]
    if errors:
        raise SpatError(errors)
    return Library(module)


def compile_choice(name: str, choice: Choice, *, backend: str = "auto") -> Compiled:
    """The pattern that a command's arguments ask for."""
    for parameter in choice.params:
        if parameter in _ARGUMENTS:
            raise click.UsageError(f"{parameter!r} is no parameter of a pattern: write --{parameter.replace('_', '-')}")
    options: dict[str, Any] = {"kv_heads": choice.kv_heads, "layer": choice.layer, "backend": backend, **choice.params}
    return compile(open_library(name).choose(choice.pattern), heads=choice.heads, **options)


def length_of(program: ir.Program, length: int | None, default: int = DEFAULT_LENGTH) -> int:
    """The length asked for; left out, what the program's grid says, or the default."""
    if length is not None:
        return length
    for grid in program.grids:
        extents = [x.value for extent in grid.extents if isinstance(x := specialise(extent, {}), ir.Const)]
        if len(extents) == len(grid.extents):
            return max(1, int(math.prod(extents)))
    return default
