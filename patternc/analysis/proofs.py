"""Properties of patterns, asked of isl for every length, head, layer and run-time tensor that is not given."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from patternc import ir
from patternc.analysis.formula import conj, disj, exists, neg, number, relation, variable
from patternc.analysis.presburger import Translator, most
from patternc.analysis.properties import Property
from patternc.analysis.rows import keys_per_row
from patternc.analysis.scalars import Env
from patternc.analysis.solver import PROVED, UNKNOWN, Answer, Subject, never, never_in_rows
from patternc.analysis.terms import CELL
from patternc.rewrite import walk

MAX_MULTIPLICITY = 8
"""Up to this multiplicity bags are compared."""


# ------------------------------------------------------------------ properties


def causal(subject: Subject) -> Answer:
    """No query attends to a later key."""
    (program,) = subject.programs

    def build(t: Translator) -> str:
        return conj(relation(">", variable("k"), variable("q")), t.at_least(program.pattern, 1, t.root).over)

    return never(subject, build)


def at_most(subject: Subject, m: int) -> Answer:
    """M ≤ m everywhere."""
    (program,) = subject.programs
    bound = most(program.pattern)
    if bound is not None and bound <= m:
        return PROVED
    return never(subject, lambda t: t.at_least(program.pattern, m + 1, t.root).over)


def nowhere(subject: Subject, q: str = "any", k: str = "any") -> Answer:
    """No query attends to any key; or no `first` or `last` query to any key, and so on."""
    (program,) = subject.programs
    return never(subject, lambda t: t.at_least(program.pattern, 1, _place(t.root, q, k)).over)


def somewhere(subject: Subject, q: str = "any", k: str = "any") -> Answer:
    """The cell is attended whatever q and k are; each is `any`, `first`, `last` or, for k, `own`: the same as q."""
    (program,) = subject.programs
    return never(subject, lambda t: neg(t.at_least(program.pattern, 1, _place(t.root, q, k)).under))


def _place(env: Env, q: str, k: str) -> Env:
    edges = {"first": number(0), "last": env.n[0] - number(1)}
    row = edges.get(q, env.q[0])
    return env.place(row, row if k == "own" else edges.get(k, env.k[0]))


def nonempty(subject: Subject) -> Answer:
    """Every row has a key."""
    (program,) = subject.programs
    subject = Subject((_with_whole_selections(program),), subject.given)
    if any(somewhere(replace(subject, patient=False), k=k).proved for k in ("own", "first", "last")):
        return PROVED

    def build(t: Translator) -> str:
        found = t.at_least(subject.programs[0].pattern, 1, t.root).under
        cell = t.scopes[CELL]
        surely = neg(exists(cell.fresh, conj(*cell.facts, neg(found))))
        return neg(exists(["k"], conj(t.inside(variable("k"), t.root.n[0]), surely)))

    return never_in_rows(subject, build)


def _with_whole_selections(program: ir.Program) -> ir.Program:
    """Selections replaced by what they select from, where that keeps every row's emptiness."""

    def whole(node: ir.Pattern) -> ir.Pattern:
        match node:
            case ir.Union(args):
                return ir.Union(tuple(whole(a) for a in args))
            case ir.Sum(args):
                return ir.Sum(tuple(whole(a) for a in args))
            case ir.Support(a):
                return ir.Support(whole(a))
            case ir.Choose(condition, then, orelse):
                return ir.Choose(condition, whole(then), whole(orelse))
            case ir.Blocks(size, body):
                return ir.Blocks(size, whole(body))
            case ir.Sample(ir.Const(count), of) if count >= 1:
                return whole(of)
            case ir.Top(ir.Const(count), by, of) if count > 0 and _is_never_nan(by, program):
                return whole(of)
        return node

    return ir.Program(program.name, whole(program.pattern), program.tensors, program.grids)


def _is_never_nan(by: ir.Scalar, program: ir.Program) -> bool:
    """NaN is never chosen, so that a row of scores that may be NaN may come out empty."""
    integers = {t.name for t in program.tensors if t.element != "float"}
    return not any(isinstance(x, ir.Read) and x.tensor not in integers for x in walk(by))


def equal(subject: Subject, other: ir.Pattern, place: Callable[[Env], Env] = lambda env: env) -> Answer:
    """The program's M(q, k) equals M of `other` in the cell that `place` makes of (q, k)."""
    pattern = subject.programs[0].pattern
    a, b = most(pattern), most(other)
    if a is None or b is None or max(a, b) > MAX_MULTIPLICITY:
        return UNKNOWN
    bound = max(a, b)

    def build(t: Translator) -> str:
        differences = []
        for m in range(1, bound + 1):
            x, y = t.at_least(pattern, m, t.root), t.at_least(other, m, place(t.root))
            differences += [conj(x.over, neg(y.under)), conj(y.over, neg(x.under))]
        return disj(*differences)

    return never(subject, build)


def symmetric(subject: Subject) -> Answer:
    return equal(subject, subject.programs[0].pattern, Env.swapped)


def contained(subject: Subject) -> Answer:
    """Wherever the first program has a cell, the second has one too."""
    inner, outer = subject.programs

    def build(t: Translator) -> str:
        return conj(t.at_least(inner.pattern, 1, t.root).over, neg(t.at_least(outer.pattern, 1, t.root).under))

    return never(subject, build)


# ------------------------------------------------------------------ all properties


def prove(subject: Subject, wanted: Property) -> Answer:
    """Whether the first program has the property. What is not proved may come with a candidate against it."""
    one = Subject(subject.programs[:1], subject.given)
    match wanted.name:
        case "causal":
            return causal(one)
        case "nonempty":
            return nonempty(one)
        case "symmetric":
            return symmetric(one)
        case "set":
            return at_most(one, 1)
        case "equals":
            assert wanted.other is not None
            return equal(subject, wanted.other.pattern)
        case "row":
            return Answer(_row(one, wanted))
        case "density":
            return Answer(_density(one, wanted))
    raise AssertionError(f"not a property: {wanted.name}")


def _row(subject: Subject, wanted: Property) -> bool:
    """Whether every row has as many keys as wanted, proved."""
    longest = subject.given.get("n", math.inf)
    if wanted.op == "!=":
        return _differs(subject, wanted, longest)
    few = wanted.fewest_keys <= 0 or (wanted.fewest_keys == 1 and nonempty(subject).proved)
    if not few or wanted.most_keys >= longest:
        return few
    longest_row = keys_per_row(subject)
    return longest_row is not None and longest_row <= wanted.most_keys


def _differs(subject: Subject, wanted: Property, longest: float) -> bool:
    """Whether no row has exactly the number of keys, proved."""
    value = wanted.number or 0
    if value < 0 or value > longest or math.isinf(value) or value != math.floor(value):
        return True
    if value == 0:
        return nonempty(subject).proved
    longest_row = keys_per_row(subject)
    return longest_row is not None and longest_row < value


def _density(subject: Subject, wanted: Property) -> bool:
    """Whether the density is as wanted, from what is trivial: between 0 and 1, or one of them."""
    if somewhere(subject).proved:
        return wanted.accepts(1)
    if nowhere(subject).proved:
        return wanted.accepts(0)
    value = wanted.number or 0
    outside = not 0 <= value <= 1
    ends = {"<=": value >= 1, ">=": value <= 0, "<": value > 1, ">": value < 0, "!=": outside, "==": False}
    return ends[wanted.op or "=="]
