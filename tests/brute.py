"""The meaning of bound IR, one cell at a time, in plain Python; and hypothesis strategies of random bound IR.

Shares no code with the analysis that it judges. A value that is not valid is an exception, `InvalidError`. Strategies
are made once each, for hypothesis looks through all of one, with those inside it, before it draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st

from patternc import ir


class InvalidError(Exception):
    """A scalar without a value: a division by zero, an index out of range, ..."""


def _wrap(x: Any) -> Any:
    return (x + 2**63) % 2**64 - 2**63 if isinstance(x, int) and not isinstance(x, bool) else x


class Brute:
    """Evaluates the cells of one space of n positions; `h` is the head, `tensors` the run-time tensors of a row."""

    def __init__(self, n: int, h: int, tensors: Mapping[str, np.ndarray]) -> None:
        self.n, self.h, self.tensors = n, h, tensors
        self.rows: dict[tuple[int, int], set[int]] = {}
        self.held: dict[int, tuple[ir.Where, dict[tuple[int, int], int]]] = {}
        """What conditions gave, by the node's id and (q, k); with the node, so that no other has its id meanwhile."""
        self.spaces: dict[int, Brute] = {}

    # -------------------------------------------------------------- scalars

    def scalar(self, node: ir.Scalar, q: int, k: int) -> Any:
        def of(a: ir.Scalar) -> Any:
            return self.scalar(a, q, k)

        match node:
            case ir.Const(value):
                return value
            case ir.Var("q"):
                return q
            case ir.Var("k"):
                return k
            case ir.Var("h"):
                return self.h
            case ir.Var("n"):
                return self.n
            case ir.Unary(op, a):
                return self._unary(op, of(a))
            case ir.Binary(op, a, b):
                return self._binary(op, of(a), of(b))
            case ir.Compare(op, a, b):
                x, y = of(a), of(b)
                return {"<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y, "==": x == y, "!=": x != y}[op]
            case ir.And(args):
                return all(of(a) for a in args)
            case ir.Or(args):
                return any(of(a) for a in args)
            case ir.If(c, a, b):
                return of(a) if of(c) else of(b)
            case ir.Pick(index, items):
                i = of(index)
                if not 0 <= i < len(items):
                    raise InvalidError
                return of(items[i])
            case ir.Read(name, indices):
                return self._read(self.tensors[name], [of(i) for i in indices])
        raise AssertionError(node)

    def _unary(self, op: str, x: Any) -> Any:
        if op == "log2":
            if x <= 0:
                raise InvalidError
            return next(e for e in range(64) if 2**e >= x)
        return {"-": lambda: _wrap(-x), "abs": lambda: _wrap(abs(x)), "not": lambda: not x}[op]()

    def _binary(self, op: str, x: Any, y: Any) -> Any:
        if (op in ("//", "%") and y == 0) or (op == "**" and y < 0):
            raise InvalidError
        if op == "**":
            return _wrap(pow(x, y, 2**64))
        if op in ("min", "max"):
            return math.nan if x != x or y != y else {"min": min, "max": max}[op](x, y)
        compute = {
            "+": lambda: x + y,
            "-": lambda: x - y,
            "*": lambda: x * y,
            "//": lambda: x // y,
            "%": lambda: x % y,
            "^": lambda: x ^ y,
        }
        return _wrap(compute[op]())

    def _read(self, tensor: np.ndarray, indices: list[int]) -> Any:
        if any(not 0 <= i < extent for i, extent in zip(indices, tensor.shape, strict=True)):
            raise InvalidError
        return tensor[tuple(indices)].item()

    # -------------------------------------------------------------- patterns

    def cell(self, node: ir.Pattern, q: int, k: int) -> int:
        match node:
            case ir.Choose(condition, a, b):
                return self.cell(a if self.scalar(condition, q, k) else b, q, k)
            case ir.Where(condition):
                known = self.held.setdefault(id(node), (node, {}))[1]
                if (q, k) not in known:
                    known[q, k] = self._holds(condition, q, k)
                return known[q, k]
            case ir.Union(args):
                return max((self.cell(a, q, k) for a in args), default=0)
            case ir.Sum(args):
                return sum(self.cell(a, q, k) for a in args)
            case ir.Product(args):
                return math.prod(self.cell(a, q, k) for a in args)
            case ir.Complement(a):
                return 1 - self.cell(a, q, k)
            case ir.Support(a):
                return min(self.cell(a, q, k), 1)
            case ir.Blocks(ir.Const(size), body):
                deeper = self.spaces.setdefault(id(node), Brute(-(-self.n // size), self.h, self.tensors))
                return deeper.cell(body, q // size, k // size)
            case ir.Cover(ir.Const(size), body):
                return int(k // size in self._row(node, q // size, lambda: self._covered(body, size, q // size)))
            case ir.Top(ir.Const(count), by, of):
                return int(k in self._row(node, q, lambda: self._top(of, by, count, q)))
            case ir.Sample(ir.Const(count), of, ir.Const(seed)):
                return int(k in self._row(node, q, lambda: self._sample(of, count, seed, q)))
        raise AssertionError(node)

    def _holds(self, condition: ir.Scalar, q: int, k: int) -> int:
        try:
            return int(self.scalar(condition, q, k))
        except InvalidError:
            return 0

    def _row(self, node: ir.Pattern, row: int, make: Any) -> set[int]:
        if (id(node), row) not in self.rows:
            self.rows[id(node), row] = make()
        return self.rows[id(node), row]

    def _covered(self, body: ir.Pattern, size: int, row: int) -> set[int]:
        queries = range(row * size, min(row * size + size, self.n))
        return {k // size for k in range(self.n) if any(self.cell(body, q, k) for q in queries)}

    def _top(self, of: ir.Pattern, by: ir.Scalar, count: float, q: int) -> set[int]:
        scores = {}
        for k in range(self.n):
            if self.cell(of, q, k):
                try:
                    score = float(self.scalar(by, q, k))
                except InvalidError:
                    continue
                if score == score:
                    scores[k] = score
        ranked = sorted(scores, key=lambda k: (-scores[k], k))
        return set(ranked[: count if isinstance(count, int) else self._share(scores, ranked, count)])

    def _share(self, scores: dict[int, float], ranked: list[int], share: float) -> int:
        if not ranked:
            return 0
        best = scores[ranked[0]]
        masses = np.cumsum([1.0 if scores[k] == best else np.exp(scores[k] - best) for k in ranked])
        return next(i for i, mass in enumerate(masses, 1) if mass >= share * masses[-1])

    def _sample(self, of: ir.Pattern, count: int, seed: int, q: int) -> set[int]:
        keys = [k for k in range(self.n) if self.cell(of, q, k)]
        return set(sorted(keys, key=lambda k: (-draw(seed, self.h, q, k), k))[:count])


def draw(seed: int, h: int, q: int, k: int) -> int:
    """The hash of language.md."""

    def mix(x: int) -> int:
        x ^= x >> 16
        x = x * 0x7FEB352D % 2**32
        x ^= x >> 15
        x = x * 0x846CA68B % 2**32
        return x ^ x >> 16

    x = mix((seed + 0x9E3779B9) % 2**32)
    for c in (h, q, k):
        x = mix(x ^ c)
    return x


# ------------------------------------------------------------------ random IR

TENSORS = {"ids": "int", "flags": "bool", "score": "float", "table": "int", "mask": "bool"}
"""The run-time tensors of the strategies: (n,) ids, flags and score, (n, n) mask, (3, n) table."""


def tensors(n: int, seed: int) -> dict[str, np.ndarray]:
    """Seeded values for them; ids are sorted, score has NaN and infinities."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n)
    score[rng.random(n) < 0.1] = np.nan
    score[rng.random(n) < 0.05] = np.inf
    return {
        "ids": np.sort(rng.integers(0, 1 + n // 7, n)),
        "flags": rng.random(n) < 0.1,
        "score": score,
        "table": rng.integers(-5, n, (3, n)).astype(np.int32),
        "mask": np.kron(rng.random((-(-n // 8), -(-n // 8))) < 0.3, np.ones((8, 8), bool))[:n, :n],
    }


@cache
def numbers(d: int) -> st.SearchStrategy[ir.Scalar]:
    """Integers of the space at depth d."""
    position = st.sampled_from([ir.Var("q", d), ir.Var("k", d)])
    leaf = st.one_of(position, position, st.integers(-3, 40).map(ir.Const))
    difference = st.just(ir.Binary("-", ir.Var("q", d), ir.Var("k", d)))

    def deeper(inner: st.SearchStrategy[ir.Scalar]) -> st.SearchStrategy[ir.Scalar]:
        size = st.integers(-3, 20).map(ir.Const)
        return st.one_of(
            st.builds(ir.Binary, st.sampled_from(["+", "-", "min", "max", "^"]), inner, inner),
            st.builds(ir.Binary, st.sampled_from(["//", "%", "*"]), inner, size),
            st.builds(ir.Binary, st.sampled_from(["//", "%", "*"]), inner, inner),
            st.builds(ir.Binary, st.just("**"), inner, st.integers(0, 3).map(ir.Const)),
            st.builds(ir.Binary, st.just("**"), st.integers(-2, 3).map(ir.Const), inner),
            st.builds(ir.Unary, st.sampled_from(["-", "abs", "log2"]), inner),
            st.builds(ir.If, st.builds(ir.Compare, st.sampled_from(["<", "=="]), inner, inner), inner, inner),
            st.builds(ir.Pick, inner, st.tuples(inner, inner, inner)),
            st.builds(ir.Pick, inner, st.tuples(size, size, size, size)),
            st.builds(lambda i: ir.Read("ids", (i,)), inner),
            st.builds(lambda i, j: ir.Read("table", (i, j)), inner, inner),
        )

    return st.recursive(st.one_of(leaf, difference), deeper, max_leaves=6)


@cache
def reals(d: int) -> st.SearchStrategy[ir.Scalar]:
    """Real numbers of the space at depth d."""
    leaf = st.one_of(
        st.builds(
            lambda i: ir.Read("score", (i,)), st.one_of(st.sampled_from([ir.Var("q", d), ir.Var("k", d)]), numbers(d))
        ),
        st.sampled_from([0.5, -0.25, 0.0, math.inf, -math.inf]).map(ir.Const),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.builds(ir.Binary, st.sampled_from(["+", "-", "*", "min", "max"]), inner, st.one_of(inner, numbers(d))),
            st.builds(ir.Unary, st.sampled_from(["-", "abs"]), inner),
            st.builds(ir.If, st.builds(ir.Compare, st.just("<"), inner, inner), inner, numbers(d)),
        ),
        max_leaves=3,
    )


@cache
def conditions(d: int) -> st.SearchStrategy[ir.Scalar]:
    """Conditions of the space at depth d."""
    n, r, op = numbers(d), reals(d), st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
    q, k = ir.Var("q", d), ir.Var("k", d)
    distance = ir.Binary("-", q, k)
    usual = st.one_of(
        st.builds(
            lambda w: ir.And((ir.Compare("<=", k, q), ir.Compare("<", distance, ir.Const(w)))), st.integers(1, 60)
        ),
        st.builds(lambda w: ir.Compare("<=", ir.Unary("abs", distance), ir.Const(w)), st.integers(0, 60)),
        st.builds(
            lambda s, r: ir.Compare("==", ir.Binary("%", distance, ir.Const(s)), ir.Const(r)), *[st.integers(1, 9)] * 2
        ),
        st.just(ir.Compare("<=", k, q)),
        st.just(ir.Compare("==", ir.Read("ids", (q,)), ir.Read("ids", (k,)))),
        st.builds(lambda w: ir.Compare("==", *[ir.Binary("//", x, ir.Const(w)) for x in (q, k)]), st.integers(1, 40)),
    )
    leaf = st.one_of(
        usual,
        usual,
        st.builds(ir.Compare, op, n, n),
        st.builds(ir.Compare, op, r, st.one_of(r, n)),
        st.builds(lambda i: ir.Read("flags", (i,)), n),
        st.builds(lambda i, j: ir.Read("mask", (i, j)), n, n),
        st.booleans().map(ir.Const),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.builds(ir.And, st.tuples(inner, inner)),
            st.builds(ir.Or, st.tuples(inner, inner)),
            st.builds(ir.Unary, st.just("not"), inner),
            st.builds(ir.If, inner, inner, inner),
            st.builds(ir.Compare, st.sampled_from(["==", "!="]), inner, inner),
            st.builds(ir.Pick, n, st.tuples(inner, inner)),
        ),
        max_leaves=4,
    )


@cache
def sets(d: int = 0, left: int = 3) -> st.SearchStrategy[ir.Pattern]:
    """Sets of the space at depth d, with at most `left` levels of operators."""
    where = st.builds(ir.Where, conditions(d))
    if not left:
        return where
    inner = st.deferred(lambda: sets(d, left - 1))
    size = st.integers(1, 24).map(ir.Const)
    options = [
        where,
        st.builds(ir.Union, st.lists(inner, max_size=3).map(tuple)),
        st.builds(ir.Product, st.lists(inner, max_size=3).map(tuple)),
        st.builds(ir.Complement, inner),
        st.builds(ir.Support, st.deferred(lambda: bags(d, left - 1))),
        st.builds(ir.Cover, size, inner),
        st.builds(
            ir.Top,
            st.one_of(st.integers(0, 5), st.sampled_from([0.3, 0.9, 1.0])).map(ir.Const),
            st.one_of(numbers(d), st.just(ir.Read("score", (ir.Var("k", d),)))),
            inner,
        ),
        st.builds(ir.Sample, st.integers(0, 5).map(ir.Const), inner, st.integers(-2, 9).map(ir.Const)),
    ]
    if d < 2:
        options.append(st.builds(ir.Blocks, size, st.deferred(lambda: sets(d + 1, left - 1))))
    return st.one_of(options)


@cache
def bags(d: int = 0, left: int = 3) -> st.SearchStrategy[ir.Pattern]:
    """Bags and sets of the space at depth d."""
    if not left:
        return sets(d, 0)
    inner = st.deferred(lambda: bags(d, left - 1))
    options = [
        sets(d, left),
        st.builds(ir.Sum, st.lists(inner, max_size=3).map(tuple)),
        st.builds(ir.Product, st.tuples(inner, inner)),
    ]
    if d < 2:
        options.append(
            st.builds(ir.Blocks, st.integers(1, 24).map(ir.Const), st.deferred(lambda: bags(d + 1, left - 1)))
        )
    return st.one_of(options)
