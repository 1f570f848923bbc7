"""A second meaning of the language: programs interpreted cell by cell, straight from their syntax trees.

It shares no code with the compiler but the nodes of the tree. A pattern becomes a Python function (q, k) ->
multiplicity of one index space, a number or condition is computed anew for every cell, and whatever a cell must not do
(divide by zero, read outside a tensor or list, …) raises OracleError. Slow and obvious: made for n up to 40.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from relations import (
    ARITHMETIC,
    BUILT_IN,
    COMBINE,
    COMPARISONS,
    INF,
    NUMERIC,
    OracleError,
    Relation,
    Value,
    best,
    covered,
    in_blocks,
    relation_of_cells,
    sample_rank,
)

from patternc import ast


@dataclass(frozen=True)
class Tensor:
    """One batch row of a run-time tensor."""

    values: np.ndarray

    def read(self, indices: Sequence[int]) -> Value:
        if len(indices) != self.values.ndim or any(
            not 0 <= i < d for i, d in zip(indices, self.values.shape, strict=True)
        ):
            raise OracleError(f"index {tuple(indices)} outside {self.values.shape}")
        return self.values[tuple(indices)].item()


@dataclass(frozen=True)
class Later:
    """A `where` binding: it is read in the index space, and for the query and key, of its use."""

    value: ast.Expr
    names: Mapping[str, Value | Later]
    axes: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Place:
    """Where an expression is read."""

    names: Mapping[str, Value | Later]
    n: int
    """The length of the index space."""
    h: int
    heads: int
    layer: int
    query: int | None = None
    key: int | None = None
    axes: tuple[tuple[str, int], ...] = ()
    """The grid of the enclosing pattern."""
    file: Mapping[str, ast.Pattern | ast.Function] = field(default_factory=dict)
    lenient: bool = False
    """Set builders are False where they have no meaning, as in compiled backends."""

    def cell(self, query: int, key: int) -> Place:
        """The same place for a query and key, unbound names aside."""
        return replace(self, query=query, key=key)

    def bind(self, names: Mapping[str, Value | Later]) -> Place:
        return replace(self, names={**self.names, **names})


# ------------------------------------------------------------------ expressions


def evaluate(e: ast.Expr, at: Place) -> Value:
    """The value of an expression; of a pattern, its Relation in the place's index space."""
    match e:
        case ast.Number(value=value) | ast.Bool(value=value):
            return value
        case ast.Inf():
            return INF
        case ast.Name(id=name):
            return evaluate_name(name, at)
        case ast.Unary(op=op, operand=a):
            return evaluate_unary(op, evaluate(a, at))
        case ast.Binary(op="and", left=a, right=b):
            return evaluate(a, at) and evaluate(b, at)
        case ast.Binary(op="or", left=a, right=b):
            return evaluate(a, at) or evaluate(b, at)
        case ast.Binary(op=op, left=a, right=b):
            left, right = evaluate(a, at), evaluate(b, at)
            return (COMBINE if isinstance(left, Relation) else ARITHMETIC)[op](left, right)
        case ast.Compare():
            return evaluate_chain(e, at)
        case ast.IfElse(then=then, condition=condition, orelse=orelse):
            return evaluate(then if evaluate(condition, at) else orelse, at)
        case ast.Match(subject=subject, arms=arms):
            return evaluate(chosen_arm(evaluate(subject, at), arms, at), at)
        case ast.Tuple(items=items) | ast.List(items=items):
            return [evaluate(i, at) for i in items]
        case ast.Index(base=base, indices=indices):
            return evaluate_index(evaluate(base, at), [evaluate(i, at) for i in indices])
        case ast.Attribute(base=base, name=name):
            return coordinate(evaluate(base, at), name.id, at)
        case ast.Call():
            return evaluate_call(e, at)
        case ast.Comprehension():
            return evaluate_comprehension(e, at)
        case ast.SetBuilder(query=query, key=key, condition=condition):

            def holds(q: int, k: int) -> bool:
                try:
                    return evaluate(condition, at.cell(q, k).bind({query.id: q, key.id: k}))
                except OracleError:
                    if at.lenient:
                        return False
                    raise

            return relation_of_cells(holds)
        case ast.Blocks(size=size, body=body):
            width = evaluate(size, at)
            return in_blocks(width, evaluate(body, replace(at, n=-(-at.n // width))))
        case ast.Cover(size=size, body=body):
            return covered(evaluate(size, at), evaluate(body, at), at.n)
    raise AssertionError(f"no meaning for {e}")


def evaluate_name(name: str, at: Place) -> Value:
    match at.names.get(name):
        case Later(value=value, names=names, axes=axes):
            return evaluate(value, replace(at, names=names, axes=axes))
        case None:
            pass
        case Tensor(values=values) if values.ndim == 0:
            return values.item()
        case value:
            return value
    known = {"q": at.query, "k": at.key, "n": at.n, "h": at.h, "heads": at.heads, "layer": at.layer}
    if name in known:
        assert known[name] is not None, f"`{name}` where there is no cell"
        return known[name]
    return BUILT_IN[name] if name in BUILT_IN else call(at.file[name], [], {}, at)


def evaluate_unary(op: str, a: Value) -> Value:
    match op:
        case "not":
            return not a
        case "~":
            return relation_of_cells(lambda q, k: a.at(q, k) == 0)
        case _:
            return -a


def evaluate_chain(e: ast.Compare, at: Place) -> bool:
    """All operands are computed, then compared two by two."""
    values = [evaluate(e.first, at)]
    verdicts = []
    for op, operand in e.rest:
        right = evaluate_items(operand, at) if op in ("in", "not in") else evaluate(operand, at)
        verdicts.append(COMPARISONS[op](values[-1], right))
        values.append(right)
    return all(verdicts)


def evaluate_items(e: ast.Expr | ast.Range, at: Place) -> Sequence[Value]:
    match e:
        case ast.Range(lo=lo, hi=hi):
            return range(evaluate(lo, at), evaluate(hi, at))
        case _:
            return evaluate(e, at)


def chosen_arm(subject: Value, arms: Iterable[ast.Arm], at: Place) -> ast.Expr:
    for arm in arms:
        match arm.label:
            case None:
                return arm.body
            case ast.Range() as label if subject in evaluate_items(label, at):
                return arm.body
            case ast.Range():
                pass
            case label if subject == evaluate(label, at):
                return arm.body
    raise OracleError(f"no arm for {subject}")


def evaluate_index(base: Value, indices: list[int]) -> Value:
    if isinstance(base, Tensor):
        return base.read(indices)
    (index,) = indices
    if not 0 <= index < len(base):
        raise OracleError(f"index {index} outside a list of {len(base)}")
    return base[index]


def coordinate(position: int, name: str, at: Place) -> int:
    """Of a position on a row-major grid."""
    below = 1
    for axis, extent in reversed(at.axes):
        if axis == name:
            return position // below % extent
        below *= extent
    raise AssertionError(f"no axis `{name}`")


# ------------------------------------------------------------------ calls and comprehensions


def evaluate_call(e: ast.Call, at: Place) -> Value:
    name = e.function.id
    if name in ("top", "sample"):
        return evaluate_selection(name, e, at)
    args = [evaluate(a, at) for a in e.args]
    keywords = {k.name.id: evaluate(k.value, at) for k in e.keywords}
    if name in NUMERIC:
        return NUMERIC[name](*args)
    if name == "support":
        return relation_of_cells(lambda q, k: args[0].at(q, k) > 0)
    return call(at.file[name], args, keywords, at)


def evaluate_selection(name: str, e: ast.Call, at: Place) -> Relation:
    named = {k.name.id: k.value for k in e.keywords}
    of = evaluate(named["of"], at) if "of" in named else BUILT_IN["full"]
    count = evaluate(e.args[0], at)
    if name == "top":
        return best(count, lambda q, k: float(evaluate(named["by"], at.cell(q, k))), of, at.n)
    seed = evaluate(named["seed"], at) if "seed" in named else 0
    return best(count, lambda q, k: sample_rank(seed, at.h, q, k), of, at.n)


def call(callee: ast.Pattern | ast.Function, args: Sequence[Value], keywords: Mapping[str, Value], at: Place) -> Value:
    """A pattern in the caller's index space, or a helper for the caller's cell; its names are its own."""
    inside = replace(at, names={})
    if isinstance(callee, ast.Pattern):
        inside = replace(inside, query=None, key=None, axes=())
    given = {**dict(zip([p.name.id for p in callee.parameters], args, strict=False)), **keywords}
    for p in callee.parameters:
        value = given[p.name.id] if p.name.id in given else evaluate(p.default, inside)
        inside = inside.bind({p.name.id: value})
    if isinstance(callee, ast.Pattern):
        inside = replace(inside, axes=tuple((a.name.id, evaluate(a.extent, inside)) for a in callee.axes))
        if inside.axes and math.prod(extent for _, extent in inside.axes) != at.n:
            raise OracleError("the grid does not have n cells")
    bindings: dict[str, Value | Later] = dict(inside.names)
    for w in callee.where:
        bindings[w.name.id] = Later(w.value, bindings, inside.axes)
    return evaluate(callee.body, replace(inside, names=bindings))


def evaluate_comprehension(e: ast.Comprehension, at: Place) -> Value:
    elements = []
    for item in evaluate_items(e.iterable, at):
        names = [t.id for t in e.targets]
        values = [item] if len(names) == 1 else item
        elements.append(evaluate(e.element, at.bind(dict(zip(names, values, strict=True)))))
    match e.function.id:
        case "any":
            return any(elements)
        case "all":
            return all(elements)
        case "union":
            return Relation(lambda q, k: max((a.at(q, k) for a in elements), default=0))
        case _:
            return Relation(lambda q, k: sum(a.at(q, k) for a in elements))


# ------------------------------------------------------------------ whole programs


def is_batched(p: ast.Parameter) -> bool:
    dims = p.type.dims if isinstance(p.type, ast.TensorType) else ()
    return bool(dims) and isinstance(dims[0], ast.Name) and dims[0].id == "batch"


def remember(a: Relation) -> Relation:
    return Relation(cache(a.at))


def mask(
    file: ast.File,
    n: int,
    n_q: int | None = None,
    *,
    heads: int = 1,
    layer: int = 0,
    params: Mapping[str, Value] | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
    imported: Sequence[ast.File] = (),
    lenient: bool = False,
) -> np.ndarray:
    """M of the file's last pattern, (heads, n_q, n), with a batch axis in front when it has a batched tensor.

    Raises OracleError where the program has no meaning; if `lenient`, the set builder is False there.
    """
    tensors = tensors or {}
    items = [item for f in (*imported, file) for item in f.items]
    definitions = {i.name.id: i for i in items if isinstance(i, ast.Pattern | ast.Function)}
    program = [i for i in file.items if isinstance(i, ast.Pattern)][-1]
    batched = {p.name.id for p in program.parameters if is_batched(p)}
    rows = {tensors[name].shape[0] for name in batched}

    def head(b: int, h: int) -> list[list[int]]:
        given = {name: Tensor(t[b] if name in batched else t) for name, t in tensors.items()}
        place = Place({}, n, h, heads, layer, file=definitions, lenient=lenient)
        meaning = call(program, [], {**(params or {}), **given}, place)
        return [[meaning.at(q, k) for k in range(n)] for q in range(n - (n if n_q is None else n_q), n)]

    cells = [[head(b, h) for h in range(heads)] for b in range(rows.pop() if rows else 1)]
    result = np.array(cells, dtype=np.int64).reshape(len(cells), heads, -1, n)
    return result if batched else result[0]
