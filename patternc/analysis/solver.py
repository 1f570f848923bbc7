"""Asking isl: whether a formula has a solution, at whatever length, head, layer and run-time tensor.

Every question has a context of its own with a budget of operations; over budget there is no answer. An answer that is
not a proof may carry a point where the property seems to fail: a candidate, for what is opaque may have no such value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from patternc import ir
from patternc.analysis.formula import (
    FALSE,
    TooComplexError,
    conj,
    number,
    relation,
    variable,
)
from patternc.analysis.presburger import Translator
from patternc.analysis.scalars import Element
from patternc.analysis.terms import CELL, CONSTANT, ROW

if TYPE_CHECKING:
    import islpy as isl

MAX_OPERATIONS = 60_000
"""isl's steps for one question; most need few of them."""
PATIENT_OPERATIONS = 150_000
"""The same for a second attempt at a formula without quantifiers, whose steps are cheaper."""
ROW_OPERATIONS = 50_000
"""The same where a formula says "some key of the row": negated projections are the most expensive steps."""


@dataclass(frozen=True, slots=True)
class Point:
    """Values of n, heads, h, layer and, where the question has them, q and k, parameters, elements of tensors."""

    values: Mapping[str, int]
    elements: Mapping[tuple[str, tuple[int, ...]], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """Proved, or, with a point, possibly refuted, or unknown."""

    proved: bool
    point: Point | None = None


PROVED, UNKNOWN = Answer(True), Answer(False)

Build = Callable[[Translator], str]
"""Makes the formula of one question."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a question is about: programs, and what is given of n, heads, h and layer."""

    programs: tuple[ir.Program, ...]
    given: Mapping[str, int] = field(default_factory=dict)
    patient: bool = True
    """Whether the second attempt may cost more."""

    @property
    def tensors(self) -> list[ir.Tensor]:
        return list({t.name: t for p in self.programs for t in p.tensors}.values())

    def translator(self, pair_facts: bool) -> Translator:
        t = Translator(self.given, self.tensors, pair_facts=pair_facts)
        for grid in (grid for p in self.programs for grid in p.grids):
            size = number(1)
            for extent in grid.extents:
                size = t.times(size, t.bound(extent, t.root))
            t.fact(relation("==", size, t.root.n[0]), CONSTANT)
        return t


# ------------------------------------------------------------------ asking isl


def _context(operations: int) -> isl.Context:
    import islpy as isl  # a slow import, which only programs with something to prove pay

    context = isl.Context()
    context.set_max_operations(operations)
    return context


def attempt(action: Callable[[], Any]) -> Any:
    """The action's result; None if the formula is too large, or isl goes over its budget."""
    import islpy as isl

    try:
        return action()
    except (TooComplexError, isl.Error):
        return None


def domain(t: Translator, levels: Iterable[int]) -> list[str]:
    """What is true of the shared names, of every row, of every cell."""
    n, zero, heads, h = t.root.n[0], number(0), t.shared("heads"), t.shared("h")
    parts = {
        CONSTANT: (relation(">=", n, number(1)), relation(">=", t.shared("layer"), zero), t.inside(h, heads)),
        ROW: (t.inside(variable("q"), n),),
        CELL: (t.inside(variable("k"), n),),
    }
    return [text for level in levels for text in (*parts[level], *t.scopes[level].facts)]


def names(t: Translator, levels: Iterable[int]) -> list[str]:
    shared = [name for name in ("n", "heads", "layer", "h") if name not in t.given]
    lead = {CONSTANT: [*shared, *t.parameters.values()], ROW: ["q"], CELL: ["k"]}
    return [name for level in levels for name in (*lead[level], *t.scopes[level].fresh)]


def read_set(names: list[str], text: str, operations: int) -> isl.Set:
    import islpy as isl

    return isl.Set.read_from_str(_context(operations), f"{{ [{', '.join(names)}] : {text} }}")


def never(subject: Subject, build: Build) -> Answer:
    """Whether no cell fulfils the formula that `build` makes: a proof, or a candidate for a counterexample.

    The second attempt knows more facts of opaque terms, which proves more and costs more.
    """
    levels = (CONSTANT, ROW, CELL)
    plain = attempt(lambda: _formula(subject, build, levels, False))
    if plain is None:
        return UNKNOWN
    first: Answer = attempt(lambda: _never(plain, MAX_OPERATIONS)) or UNKNOWN
    if first.proved:
        return first
    richer = attempt(lambda: _formula(subject, build, levels, True)) or plain
    operations = PATIENT_OPERATIONS if subject.patient and "exists" not in richer.text else MAX_OPERATIONS
    if richer.text == plain.text and operations == MAX_OPERATIONS:
        return first
    return attempt(lambda: _never(richer, operations)) or first


def never_in_rows(subject: Subject, build: Build) -> Answer:
    """The same for a formula about rows."""
    levels = (CONSTANT, ROW)
    return attempt(lambda: _never(_formula(subject, build, levels, True), ROW_OPERATIONS)) or UNKNOWN


@dataclass(frozen=True, slots=True)
class _Formula:
    """A set to be found empty, with what its variables stand for."""

    t: Translator
    names: list[str]
    text: str
    elements: list[Element]


def _formula(subject: Subject, build: Build, levels: tuple[int, ...], facts: bool) -> _Formula:
    t = subject.translator(facts)
    text = build(t)
    elements = [e for e in t.elements if t.level(variable(e.name)) in levels]
    indices = [(f"x{i}_{j}", index) for i, e in enumerate(elements) for j, index in enumerate(e.index)]
    order = [*names(t, levels), *(name for name, _ in indices)]
    where = [relation("==", variable(name), index) for name, index in indices]
    return _Formula(t, order, conj(*domain(t, levels), *where, text), elements)


def _never(formula: _Formula, operations: int) -> Answer:
    if formula.text == FALSE:
        return PROVED
    found = read_set(formula.names, formula.text, operations)
    if found.is_empty():
        return PROVED
    values = attempt(lambda: _smallest(found, formula.names))
    return Answer(False, _point(formula, values)) if values else UNKNOWN


def _smallest(found: isl.Set, names: list[str]) -> dict[str, int] | None:
    """A point, with the least n, then heads, layer, h, q and k."""
    import islpy as isl

    for i, name in enumerate(names):
        if name in ("n", "heads", "layer", "h", "q", "k"):
            found = found.fix_val(isl.dim_type.set, i, found.dim_min_val(i)).coalesce()  # drops empty pieces
    point = found.sample_point()
    if point.is_void():
        return None
    return {name: point.get_coordinate_val(isl.dim_type.set, i).to_python() for i, name in enumerate(names)}


def _point(formula: _Formula, values: dict[str, int]) -> Point:
    shared: dict[str, int] = {x: values[x] for x in ("n", "heads", "layer", "h", "q", "k") if x in values}
    parameters = {name: values[v] for name, v in formula.t.parameters.items() if v in values}
    elements = {
        (e.tensor, tuple(values[f"x{i}_{j}"] for j in range(len(e.index)))): values[e.name]
        for i, e in enumerate(formula.elements)
    }
    return Point({**formula.t.given, **parameters, **shared}, elements)
