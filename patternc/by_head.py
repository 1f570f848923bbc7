"""Different patterns for different heads, put together in Python."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patternc import ast, ir
from patternc.arguments import arguments
from patternc.compiler import Compiled
from patternc.elaborate import elaborate
from patternc.fold import show
from patternc.library import Pattern, load
from patternc.loader import Definition, Module
from patternc.parser import parse
from patternc.source import Source
from patternc.specialise import of_head, specialise

AnySource = str | Path | Pattern
Part = AnySource | tuple[AnySource, Mapping[str, Any]]


def per_head(
    parts: Mapping[range | int, Part], *, kv_heads: int | None = None, layer: int = 0, backend: str = "auto"
) -> Compiled:
    """One compiled pattern of which each head follows the part that its number is in.

    `parts` maps ranges of heads, or single heads, to sources as `patternc.compile` takes them, or to pairs of a source
    and its parameters. Together they have every head from 0 up to the last once; ValueError if not. In a part, `h` is
    the head's number in the whole and `heads` counts all heads; run-time tensors of one name are one tensor, and must
    be declared alike. The rest is as in `patternc.compile`.
    """
    heads = _check_cover(list(parts))
    read = [_read(heads_of, part, heads, layer) for heads_of, part in parts.items()]
    program = _together(read)
    for h in range(heads):
        of_head(program, h)  # whatever has no value for some head is found now
    kv_heads = heads if kv_heads is None else kv_heads
    if kv_heads < 1 or heads % kv_heads:
        raise ValueError(f"heads must be a multiple of kv_heads; found heads = {heads}, kv_heads = {kv_heads}")
    return Compiled(_described(read), program, heads, kv_heads, layer, backend)


@dataclass(frozen=True, eq=False)
class _Read:
    """A part that is elaborated."""

    heads: tuple[int, ...]
    pattern: Pattern
    params: Mapping[str, Any]
    program: ir.Program


def _read(heads_of: range | int, part: Part, heads: int, layer: int) -> _Read:
    source, params = part if isinstance(part, tuple) else (part, {})
    chosen = source if isinstance(source, Pattern) else load(source).choose(None)
    values = arguments(chosen.definition, params)
    program = specialise(elaborate(chosen.definition, values, heads=heads), {"layer": layer})
    return _Read(tuple(_numbers(heads_of)), chosen, params, program)


# ------------------------------------------------------------------ heads


def _numbers(heads_of: range | int) -> Iterable[int]:
    return heads_of if isinstance(heads_of, range) else (heads_of,)


def _check_cover(keys: list[range | int]) -> int:
    """The number of heads; ValueError unless every head below it is in one key."""
    owner: dict[int, range | int] = {}
    for key in keys:
        if isinstance(key, bool) or not isinstance(key, range | int):
            raise TypeError(f"heads are given as a range or an int; found {key!r}")
        for h in _numbers(key):
            if h in owner:
                raise ValueError(f"head {h} is in both {owner[h]} and {key}; every head follows one pattern")
            if h < 0:
                raise ValueError(f"heads count from 0; found {h} in {key}")
            owner[h] = key
    if not owner:
        raise ValueError("there must be at least one head; found none")
    last = max(owner)
    missing = [h for h in range(last) if h not in owner]
    if missing:
        raise ValueError(f"heads 0 to {last} need a pattern each; there is none for {', '.join(map(str, missing))}")
    return len(owner)


# ------------------------------------------------------------------ the program


def _together(read: list[_Read]) -> ir.Program:
    *others, last = (part for part in read if part.heads)
    pattern = last.program.pattern
    for part in reversed(others):
        pattern = ir.Choose(_in(part.heads), part.program.pattern, pattern)
    tensors: dict[str, ir.Tensor] = {}
    for tensor in (tensor for part in read for tensor in part.program.tensors):
        if tensors.setdefault(tensor.name, tensor) != tensor:
            raise ValueError(f"two parts have a run-time tensor {tensor.name!r}, of different type or shape")
    grids = dict.fromkeys(grid for part in read for grid in part.program.grids)
    return ir.Program("per_head", pattern, tuple(tensors.values()), tuple(grids))


def _in(heads: tuple[int, ...]) -> ir.Scalar:
    """Whether h is one of them."""
    h = ir.Var("h")
    low, high = min(heads), max(heads)
    if len(heads) == high - low + 1:
        return ir.And((ir.Compare("<=", ir.Const(low), h), ir.Compare("<=", h, ir.Const(high))))
    return ir.Or(tuple(ir.Compare("==", h, ir.Const(i)) for i in heads))


# ------------------------------------------------------------------ its description


def _described(read: list[_Read]) -> Pattern:
    """What stands in messages and saved modules in place of a program's text."""
    arms = [f"{arm} => {_call(part)}" for part in read for arm in _arms(part.heads)]
    text = "pattern per_head() =\n    match h {\n        " + ",\n        ".join(arms) + "\n    }"
    source = Source("<per_head>", text)
    file, _ = parse(source)
    node = file.items[0]
    assert isinstance(node, ast.Pattern), text
    return Pattern(Definition(node, Module(source, file)))


def _arms(heads: tuple[int, ...]) -> list[str]:
    if len(heads) > 1 and heads == tuple(range(heads[0], heads[-1] + 1)):
        return [f"{heads[0]}..{heads[-1] + 1}"]
    return [str(h) for h in heads]


def _call(part: _Read) -> str:
    given = ", ".join(f"{name} = {_spelt(value)}" for name, value in part.params.items())
    return f"{part.pattern.name}({given})" if given else part.pattern.name


def _spelt(value: Any) -> str:
    """A value as the language writes it."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_spelt, value))})"
    if hasattr(value, "__iter__"):
        return f"[{', '.join(map(_spelt, value))}]"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.17f}".rstrip("0").ljust(3, "0") if "e" in repr(value) else repr(value)
    return show(value)
