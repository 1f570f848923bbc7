"""An upper bound of the keys of a row, at every length."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from patternc import ir
from patternc.analysis.formula import TooComplexError, conj
from patternc.analysis.solver import PATIENT_OPERATIONS, Subject, attempt, domain, names, read_set
from patternc.analysis.terms import CELL, CONSTANT, ROW
from patternc.rewrite import walk

if TYPE_CHECKING:
    import islpy as isl

MAX_MODULUS = 64
"""Largest period of rows that is told apart when keys are counted."""
MAX_POINTS = 20_000
"""Most pairs (row modulo period, key's distance) that are counted one by one."""


def keys_per_row(subject: Subject) -> int | None:
    """A number that no row has more keys than, at any length; None if none is found.

    Keys are counted by their distance from the query, from the first or from the last key, whichever is bounded, for
    every remainder of the row modulo the periods in the program.
    """
    (program,) = subject.programs
    counts = [attempt(partial(_keys, subject, *branch)) for branch in _branches(program.pattern)]
    return None if None in counts else max(counts)


def _branches(pattern: ir.Pattern) -> list[tuple[list[tuple[ir.Scalar, bool]], ir.Pattern]]:
    """The pattern under each outcome of the choices in it."""
    match pattern:
        case ir.Choose(condition, then, orelse):
            return [
                ([(condition, outcome), *path], body)
                for outcome, arm in ((True, then), (False, orelse))
                for path, body in _branches(arm)
            ]
        case ir.Product(args):
            for i, arg in enumerate(args):
                if isinstance(arg, ir.Choose):
                    rest = args[:i], args[i + 1 :]
                    return [(path, ir.Product((*rest[0], body, *rest[1]))) for path, body in _branches(arg)]
    return [([], pattern)]


def _keys(subject: Subject, path: list[tuple[ir.Scalar, bool]], pattern: ir.Pattern) -> int | None:
    t = subject.translator(pair_facts=False)
    conditions = [t.condition(c, t.root) for c, _ in path]
    guards = [(c if taken else ~c).over for c, (_, taken) in zip(conditions, path, strict=True)]
    text = conj(*guards, t.at_least(pattern, 1, t.root).over)
    levels = (CONSTANT, ROW, CELL)
    order = names(t, levels)
    cells = read_set(order, conj(*domain(t, levels), text), PATIENT_OPERATIONS).coalesce()
    counts = [_count(cells, order, t.root.n[0].text, m) for m in sorted({1, _period(subject.programs[0].pattern)})]
    return min((c for c in counts if c is not None), default=None)


def _period(pattern: ir.Pattern) -> int:
    """The least common multiple of the block sizes and divisors in it, or 1 if that is large."""
    period = 1
    for node in walk(pattern):
        match node:
            case ir.Blocks(ir.Const(size)) | ir.Cover(ir.Const(size)) | ir.Binary("//" | "%", _, ir.Const(size)):
                period = math.lcm(period, abs(int(size)) or 1) if not math.isinf(size) else period
    return period if period <= MAX_MODULUS else 1


def _count(cells: isl.Set, names: list[str], n: str, period: int) -> int | None:
    """The most keys of a row, over its remainders modulo `period`."""
    import islpy as isl

    measures = [
        isl.Map.read_from_str(
            cells.get_ctx(), f"{{ [{', '.join(names)}] -> [r, d] : r = q mod {period} and d = {measure} }}"
        )
        for measure in ("k - q", "k", f"{n} - k")
    ]
    sets = [isl.Set.read_from_str(cells.get_ctx(), "{ [r, d] : false }") for _ in measures]
    for piece in cells.get_basic_sets():
        for i, measure in enumerate(measures):
            image = isl.Set(piece).apply(measure)
            if image.is_bounded():
                sets[i] = sets[i].union(image)
                break
        else:
            return None
    rows: Counter[int] = Counter()
    for found in (s.coalesce() for s in sets):
        if period == 1:
            rows[0] += _size(found)
            continue
        if _size(found) > MAX_POINTS:
            return None
        found.foreach_point(lambda p: rows.update([p.get_coordinate_val(isl.dim_type.set, 0).to_python()]))
    return max(rows.values(), default=0)


def _size(found: isl.Set) -> int:
    size = found.count_val()
    if not size.is_int():
        raise TooComplexError
    return int(size.to_python())
