"""Verdicts of `check` statements: proved for every n, checked at one n, refuted with a counterexample, or unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import product

from patternc import fold, ir
from patternc.analysis.concrete import GiveUpError
from patternc.analysis.properties import Property
from patternc.analysis.refute import LENGTHS, Case, Elements, Free, Search, place
from patternc.errors import Code, Diagnostic, SpatError
from patternc.rewrite import walk
from patternc.source import Span
from patternc.specialise import bind, specialise

__all__ = ["Kind", "Property", "Verdict", "judge"]

SMALL = 20_000
"""Cells (heads · n²) that are looked at one by one, without NumPy."""
LONG = 4096
"""Lengths beyond which a proof is tried before tiles are counted; and no other is tried to refute."""
MAX_WORK = 1_500_000
"""Length times nodes of the program, over what is tried beyond the smallest lengths: a bound on time."""
OVERHEAD = 500
"""What a trial costs beside its length, in the same unit."""


class Kind(StrEnum):
    PROVED = "proved"
    CHECKED = "checked"
    REFUTED = "refuted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a property; `text` is `proved for every n`, `checked at n = 16`, `refuted` or `unknown`."""

    kind: Kind
    text: str
    counterexample: str | None = None
    hint: str | None = None
    """What would decide an unknown one."""

    def diagnostic(self, span: Span) -> Diagnostic | None:
        """The error for a property that is not known to hold; `span` is the property's place."""
        match self.kind:
            case Kind.REFUTED:
                return Diagnostic(Code.CHECK_REFUTED, f"{self.counterexample}", span, "this does not hold")
            case Kind.UNKNOWN:
                message = f"`{span.text}` is neither proved nor refuted"
                hints = (self.hint,) if self.hint else ()
                return Diagnostic(Code.CHECK_UNKNOWN, message, span, "not decided", hints=hints)
        return None


def judge(program: ir.Program, wanted: Property, at: Mapping[str, int]) -> Verdict:
    """Whether the program, closed but for n, h, heads, layer and tensors, has a property.

    `at` gives any of n, heads and layer; what it leaves out is meant universally. SpatError if the program does not
    admit the n that is given.
    """
    programs = (program,) if wanted.other is None else (program, wanted.other)
    at = {**at, **_length_of_grids(programs, at)}
    if "n" in at:
        for p in programs:
            bind(p, at["n"])  # refuses lengths that do not fit
    free = Free.of(programs)
    settled = "n" in at and not free.tensors
    settled = settled and ("heads" in at or not free.heads) and ("layer" in at or not free.layer)
    return _at_one_length(program, wanted, at) if settled else _for_every(programs, wanted, at)


def _length_of_grids(programs: tuple[ir.Program, ...], at: Mapping[str, int]) -> dict[str, int]:
    """A grid of known extents admits one length only. SpatError if it has no cells."""
    if "n" in at:
        return {}
    for grid in (grid for p in programs for grid in p.grids):
        extents = [e.value for e in grid.extents if isinstance(e, ir.Const)]
        if len(extents) == len(grid.extents):
            if not all(isinstance(e, int) and e >= 1 for e in extents):
                shape = " * ".join(map(fold.show, extents))
                raise fold.fail(
                    Code.GRID_LENGTH, f"a grid of {shape} has no cells", grid.span, "must be 1 or more each"
                )
            return {"n": math.prod(map(int, extents))}
    return {}


def _words(at: Mapping[str, int]) -> str:
    return ", ".join(f"{name} = {at[name]}" for name in ("n", "heads", "layer") if name in at)


def _holds(at: Mapping[str, int]) -> Verdict:
    if "n" in at:
        return Verdict(Kind.CHECKED, f"checked at {_words(at)}")
    rest = f" at {_words(at)}" if at else ""
    return Verdict(Kind.PROVED, f"proved for every n{rest}")


def _refuted(counterexample: str) -> Verdict:
    return Verdict(Kind.REFUTED, "refuted", counterexample)


def _unknown(programs: tuple[ir.Program, ...], at: Mapping[str, int]) -> Verdict:
    free = Free.of(programs)
    open_names = {"n": 256, **({"heads": 8} if free.heads else {}), **({"layer": 0} if free.layer else {})}
    if open_names.keys() <= at.keys():
        return Verdict(Kind.UNKNOWN, "unknown")
    return Verdict(Kind.UNKNOWN, "unknown", hint=f"ask at one length: `at {_words({**open_names, **at})}`")


# ------------------------------------------------------------------ one length


def _at_one_length(program: ir.Program, wanted: Property, at: Mapping[str, int]) -> Verdict:
    n, heads, layer = at["n"], at.get("heads", 1), at.get("layer", 0)
    if heads * n * n <= SMALL:
        search = Search(program, wanted, at)
        try:
            found = search.in_case(Case(n, heads, layer, Elements({}, n)))
            return _refuted(found) if found else _holds(at)
        except GiveUpError:
            pass  # selections and covers may cost more than their cells: the tiles decide
    programs = (program,) if wanted.other is None else (program, wanted.other)
    return (n > LONG and _by_proof(programs, wanted, at)) or _by_tiles(programs, wanted, at)


def _by_tiles(programs: tuple[ir.Program, ...], wanted: Property, at: Mapping[str, int]) -> Verdict:
    from patternc.analysis.lengths import TooLongError

    try:
        found = _failure(programs, wanted, at["n"], at.get("heads", 1), at.get("layer", 0))
    except TooLongError:
        return _by_proof(programs, wanted, at) or _unknown(programs, at)
    return _refuted(found) if found else _holds(at)


def _failure(programs: tuple[ir.Program, ...], wanted: Property, n: int, heads: int, layer: int) -> str | None:
    """The sentence of the first failure at one length, by counting tiles; TooLongError if that cannot be."""
    from patternc.analysis.lengths import At  # NumPy is needed for large lengths only

    program, *others = (_specialised(p, heads, layer) for p in programs)
    found = At(program, n, heads).failure(replace(wanted, other=others[0] if others else None))
    if found is None:
        return None
    failure, h = found
    free = Free.of(programs)
    density = wanted.name == "density"
    return failure.told(place(n, heads, h if free.heads and not density else None, layer if free.layer else None))


def _specialised(program: ir.Program, heads: int, layer: int) -> ir.Program:
    specialised = specialise(program, {"heads": heads, "layer": layer})
    assert isinstance(specialised, ir.Program)
    return specialised


# ------------------------------------------------------------------ every length


def _for_every(programs: tuple[ir.Program, ...], wanted: Property, at: Mapping[str, int]) -> Verdict:
    found = Search(programs[0], wanted, at).run()
    verdict = _refuted(found) if found else _by_proof(programs, wanted, at)
    return verdict or _further(programs, wanted, at) or _unknown(programs, at)


def _by_proof(programs: tuple[ir.Program, ...], wanted: Property, at: Mapping[str, int]) -> Verdict | None:
    from patternc.analysis.proofs import prove  # formulas are needed by checks that need a proof only
    from patternc.analysis.solver import Subject

    answer = prove(Subject(programs, at), wanted)
    if answer.proved:
        return _holds(at)
    found = answer.point and Search(programs[0], wanted, at).confirm(answer.point)
    return _refuted(found) if found else None


def _further(programs: tuple[ir.Program, ...], wanted: Property, at: Mapping[str, int]) -> Verdict | None:
    """A refutation at lengths just beyond the numbers in the program, where its parts stop overlapping."""
    from patternc.analysis.lengths import TooLongError

    free = Free.of(programs)
    if free.tensors:
        return None
    cases = product(
        [at["n"]] if "n" in at else _lengths(programs, wanted),
        [at["heads"]] if "heads" in at else [2] if free.heads else [1],
        [at["layer"]] if "layer" in at else range(8) if free.layer else [0],
    )
    size, work = sum(1 for p in programs for _ in walk(p)), 0
    for case in cases:
        work += (case[0] + OVERHEAD) * size
        if work > MAX_WORK:
            break
        try:
            found = _failure(programs, wanted, *case)
        except (SpatError, TooLongError):  # the program does not admit this length, which nobody asked for
            continue
        if found:
            return _refuted(found)
    return None


def _lengths(programs: tuple[ir.Program, ...], wanted: Property) -> list[int]:
    numbers = {x.value for p in programs for x in walk(p) if isinstance(x, ir.Const)} | {wanted.number or 0}
    sizes = {int(x) for x in numbers if 2 < x <= LONG}
    lengths = {x + 1 for x in sizes} | {2 * x for x in sizes if 2 * x <= LONG}
    return sorted(n for n in lengths if n > max(LENGTHS))
