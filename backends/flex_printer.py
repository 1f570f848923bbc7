"""Prints a pattern at one length as a mask_mod, and as a score_mod if it is a bag, for FlexAttention."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from patternc import ir
from patternc.backends import flex_values as values
from patternc.backends.export_cells import table_name
from patternc.backends.flex_cells import Cell, Function, Relation, Source, either_pattern
from patternc.backends.flex_values import FALSE, Value, number
from patternc.rewrite import uses_of


@dataclass(frozen=True, eq=False)
class Printed:
    """The source of a function `make(tensors, tables)` that returns a mask_mod and a score_mod (None for a set)."""

    text: str
    lists: Mapping[str, tuple[int | float, ...]]
    """Numbers to be captured as tensors, by name in `tables`."""
    relations: Mapping[str, Relation]
    """Relations to be captured as tables of bools, by name in `tables`."""


def print_mods(
    classes: Sequence[tuple[tuple[int, ...], ir.Pattern]],
    *,
    n: int,
    n_q: int,
    sources: Mapping[str, Source],
    title: str,
) -> Printed:
    """`classes` are heads and their pattern, bound to the length; equal subtrees must be one object (evaluate.shared).

    In a pattern of several heads `h` may be free, though not in sizes, counts and ranges.
    """
    at = Function(n, n_q, sources)
    m = _program(at, classes)
    return Printed(_function(at, m, title), at.lists, at.relations)


def _function(at: Function, m: Value, title: str) -> str:
    captured = [f"{table_name(name)} = tensors[{json.dumps(name)}]" for name in sorted(at.tensors)]
    captured += [f"{name} = tables[{json.dumps(name)}]" for name in [*at.lists, *at.relations]]
    first = at.n - at.n_q
    positions = [f"q = q_idx + {first}" if first else "q = q_idx", "k = kv_idx"]
    cell = [*positions, *at.lines, f"return {values.tensor(m).text}"]
    if m.kind == "bool":
        functions = _defined("mask_mod(b, h, q_idx, kv_idx)", cell)
    else:
        functions = [
            *_defined("multiplicity(b, h, q_idx, kv_idx)", cell),
            "",
            *_defined("mask_mod(b, h, q_idx, kv_idx)", ["return multiplicity(b, h, q_idx, kv_idx) > 0"]),
            "",
            *_defined(
                "score_mod(score, b, h, q_idx, kv_idx)",
                ["m = multiplicity(b, h, q_idx, kv_idx)", "return score + log_weight(m, score)"],
            ),
        ]
    mods = "mask_mod, None" if m.kind == "bool" else "mask_mod, score_mod"
    body = [f'"""{title}"""', *captured, "", *functions, "", f"return {mods}"]
    imports = ["import torch", "", "from patternc.backends.flex_words import ceil_log2, log_weight, power", "", ""]
    return "\n".join([*imports, *_defined("make(tensors, tables)", body)]) + "\n"


def _defined(signature: str, body: Sequence[str]) -> list[str]:
    return [f"def {signature}:", *(f"    {line}" if line else "" for line in body)]


def _program(at: Function, classes: Sequence[tuple[tuple[int, ...], ir.Pattern]]) -> Value:
    """M of all heads."""
    heads = sum(len(members) for members, _ in classes)
    h = values.integer("h", 0, heads - 1)
    if len(classes) == 1:
        return _cell(at, *classes[0], h).pattern(classes[0][1])
    class_of = [0] * heads
    for i, (members, _) in enumerate(classes):
        for head in members:
            class_of[head] = i
    number_of = at.chosen(h, tuple(class_of))
    result = FALSE
    for i, (members, pattern) in enumerate(classes):
        here = values.comparison("==", number_of, number(i))
        result = at.short(either_pattern(here, _cell(at, members, pattern, h).pattern(pattern), result))
    return result


def _cell(at: Function, members: tuple[int, ...], pattern: ir.Pattern, h: Value) -> Cell:
    q, k = values.integer("q", at.n - at.n_q, at.n - 1), values.integer("k", 0, at.n - 1)
    return Cell(at, members, h, uses_of(pattern, ir.RELATIONS), (), at.n, at.n_q, q, k)
