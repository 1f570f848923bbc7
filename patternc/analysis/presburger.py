"""From the IR to integer formulas (text for isl), sound from both sides.

`Translator.at_least(pattern, m)` says where M(q, k) ≥ m: within `over`, surely in `under`, whatever the fresh variables
(`terms.py`) stand for. Importing this does not import islpy; `proofs.py` does, when it asks.
"""

from __future__ import annotations

import math

from patternc import ir
from patternc.analysis.formula import ALWAYS, FALSE, NEVER, Condition, Linear, conj, every, number, relation, some
from patternc.analysis.scalars import Env, ScalarTranslator


class Translator(ScalarTranslator):
    """Translates the patterns of one question; `given` fixes some of n, heads, h, layer."""

    def at_least(self, node: ir.Pattern, m: int, env: Env) -> Condition:
        """Where M ≥ m; m is positive."""
        self._visit()
        match node:
            case ir.Where(condition):
                found = self.condition(condition, env) if m == 1 else NEVER
                return Condition(found.over, found.under)
            case ir.Union(args):
                return some(self.at_least(a, m, env) for a in args)
            case ir.Sum(args):
                return self._sum(args, m, env)
            case ir.Product(args):
                return self._product(args, m, env)
            case ir.Complement(a):
                return ~self.at_least(a, 1, env) if m == 1 else NEVER
            case ir.Support(a):
                return self.at_least(a, 1, env) if m == 1 else NEVER
            case ir.Choose(condition, then, orelse):
                c = self.condition(condition, env)
                return (c & self.at_least(then, m, env)) | (~c & self.at_least(orelse, m, env))
            case ir.Family():
                return self._family(node, m, env)
            case ir.Blocks(size, body):
                return self.at_least(body, m, self.enter(size, env))
            case ir.Cover(size, body):
                return self._cover(size, body, env) if m == 1 else NEVER
            case ir.Top(of=of) | ir.Sample(of=of):
                return self._selection(node, of, env) if m == 1 else NEVER
        raise AssertionError(f"not a pattern: {node!r}")

    def _sum(self, args: tuple[ir.Pattern, ...], m: int, env: Env) -> Condition:
        """`reached[j]`: the arms so far add up to j + 1 or more."""
        reached = [NEVER] * m
        for arm in args:
            steps = [self.at_least(arm, j, env) for j in range(1, m + 1)]
            reached = [
                some([reached[j], steps[j], *(reached[j - i - 1] & steps[i] for i in range(j))]) for j in range(m)
            ]
        return reached[-1]

    def _product(self, args: tuple[ir.Pattern, ...], m: int, env: Env) -> Condition:
        """`reached[j]`: the factors so far multiply to j or more."""
        if m == 1:
            return every(self.at_least(a, 1, env) for a in args)
        reached = [ALWAYS, ALWAYS, *[NEVER] * (m - 1)]
        for arm in args:
            steps = [ALWAYS, *(self.at_least(arm, j, env) for j in range(1, m + 1))]
            reached = [ALWAYS] + [
                some(steps[i] & reached[-(-j // i)] for i in range(1, j + 1)) for j in range(1, m + 1)
            ]
        return reached[m]

    def _family(self, node: ir.Family, m: int, env: Env) -> Condition:
        lo, hi = self.bound(node.lo, env), self.bound(node.hi, env)
        bind = self._binder(node.variable, env)
        with self.quantifier("i") as ((i,), close):
            within = conj(relation(">=", i, lo), relation("<", i, hi))
            found = close(self.at_least(node.body, 1 if node.kind == "sum" else m, bind(i)), within)
        return found if m == 1 or node.kind == "union" else Condition(found.over, FALSE)

    def enter(self, size: ir.Scalar, env: Env) -> Env:
        """The space of blocks of that size."""
        s = self.bound(size, env)
        q, k = self.divide(env.q[-1], s), self.divide(env.k[-1], s)
        n = self.divide(env.n[-1] - number(1), s) + number(1)
        if s.known is None:
            self.fact(relation(">=", s, number(1)), self.level(s))
            for x in (q, k):
                self.fact(conj(relation(">=", x, number(0)), relation("<", x, n)), self.level(x, n))
        return Env((*env.q, q), (*env.k, k), (*env.n, n), env.bound)

    def _cover(self, size: ir.Scalar, body: ir.Pattern, env: Env) -> Condition:
        s = self.bound(size, env)
        with self.quantifier("i", "j") as ((i, j), close):
            within = [self.inside(x, env.n[-1]) for x in (i, j)]
            for x, y in ((i, env.q[-1]), (j, env.k[-1])):
                within.append(relation("==", self.divide(x, s), self.divide(y, s)))
            return close(self.at_least(body, 1, env.place(i, j)), conj(*within))

    def inside(self, x: Linear, end: Linear) -> str:
        return conj(relation(">=", x, number(0)), relation("<", x, end))

    def _selection(self, node: ir.Pattern, of: ir.Pattern, env: Env) -> Condition:
        """A selection takes some of `of`; the same one in the same cell takes the same."""
        return self.at_least(of, 1, env) & self.truth((node, env.key), self._here(env))


def most(node: ir.Pattern) -> int | None:
    """An upper bound of M; None if it hangs on n."""
    match node:
        case ir.Sum(args) | ir.Union(args) | ir.Product(args):
            bounds = [b for b in map(most, args) if b is not None]
            if len(bounds) < len(args):
                return None
            match node:
                case ir.Sum():
                    return sum(bounds)
                case ir.Union():
                    return max(bounds)
            return math.prod(bounds)
        case ir.Choose(_, then, orelse):
            a, b = most(then), most(orelse)
            return None if a is None or b is None else max(a, b)
        case ir.Blocks(_, body):
            return most(body)
        case ir.Family(kind, body=body):
            return most(body) if kind == "union" else None
    return 1
