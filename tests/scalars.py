"""Writes numbers and conditions of typed programs by many small choices.

By construction they have a value in every cell: divisors are positive, list indices are in range, and what may fail
stands behind a guard.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from random import Random
from typing import Any

from drawn import TensorSpec


@dataclass(frozen=True)
class Space:
    """Where text is being written: the index space and the names that may be used there."""

    depth: int = 0
    length: str | None = "n"
    """The number of positions as text over the n of tokens, for the axes of tensors; None where there may be none."""
    q: str = "q"
    k: str = "k"
    numbers: tuple[str, ...] = ()
    """Integers bound by comprehensions."""
    grid: bool = False
    plain: bool = False
    """Nothing in it may have a unit, so that its text can stand in any space."""


HELPERS = {
    "band": "pattern band(w: tokens, s: int = 1) = { q -> k : abs(q - k) <= w * s and (q - k) % s == 0 }",
    "segment": "pattern segment(w: tokens, r: int) = { i -> j : i // w == j // w and i % w % r == h % r }",
    "heads_of": "pattern heads_of(m: int) = match h % 2 { 0 => causal, else => { q -> k : q % m == k % m } }",
    "close": "fn close(a: tokens, b: tokens, w: int = 2) = far <= w\n  where far = abs(a - b)",
    "close_blocks": "fn close_blocks(a: blocks, b: blocks) = abs(a - b) <= 1",
    "parity": "fn parity(a: int) = a % 2",
}


class ScalarWriter:
    """Chooses the text of numbers and conditions; helpers, parameters, bindings and tensors gather as they are used."""

    def __init__(
        self,
        seed: bytes,
        *,
        tensors: bool = True,
        guarded: bool = False,
        careless: bool = False,
        grids: bool = True,
    ) -> None:
        self.seed, self.random = seed, Random(seed)
        self.tensors_allowed = tensors and self.chance(35)
        self.guarded, self.careless = guarded, careless
        self.grid = grids and self.chance(10)
        self.heads, self.layer = self.number(1, 4), self.number(0, 7)
        self.depth = 1 + seed[0] * 4 // 256
        self.helpers: set[str] = set()
        self.parameters: dict[str, str] = {}
        self.values: dict[str, Any] = {}
        """What comes from outside."""
        self.known: dict[str, Any] = {}
        """The values of all parameters."""
        self.tensors: dict[str, TensorSpec] = {}
        self.where: dict[str, tuple[Space, str, str]] = {}
        self.count = 0

    # -------------------------------------------------------------- choices

    def number(self, lo: int, hi: int) -> int:
        return self.random.randint(lo, hi)

    def chance(self, percent: int) -> bool:
        return self.random.randint(1, 100) <= percent

    def pick(self, *options: Callable[[], str]) -> str:
        return self.random.choice(options)()

    def word(self, *options: str) -> str:
        return self.random.choice(options)

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def use(self, helper: str) -> str:
        self.helpers.add(helper)
        return helper

    # -------------------------------------------------------------- parameters and tensors

    def parameter(self, kind: str, value: Any) -> str:
        """A new parameter that is `value`, by its default or from outside."""
        name = self.fresh("p")
        self.known[name] = value
        if self.chance(50):
            self.parameters[name] = f"{name}: {kind} = {literal(value)}"
        else:
            self.values[name] = value
            unlike = f" = {literal(value + 1)}" if type(value) is int and self.chance(50) else ""
            self.parameters[name] = f"{name}: {kind}{unlike}"
        return name

    def tensor(self, stem: str, element: str, dims: tuple[str, ...], batched: bool) -> str:
        name = f"{stem}_{len([t for t in self.tensors.values() if t.name.startswith(stem)])}"
        for known in self.tensors.values():
            if (known.element, known.dims, known.batched) == (element, dims, batched):
                return known.name
        self.tensors[name] = TensorSpec(name, element, dims, batched)
        return name

    # -------------------------------------------------------------- integers without a unit

    def positive(self, s: Space, lo: int = 1, hi: int = 8) -> str:
        """A number from lo to hi that can divide and be a size."""
        value = self.number(lo, hi)
        kinds = ["int"] if s.depth or s.plain else ["int", "tokens"]
        return self.parameter(self.word(*kinds), value) if self.chance(20) else str(value)

    def window(self) -> float:
        return inf if self.chance(30) else self.number(1, 12)

    def integer(self, s: Space) -> str:
        def small() -> str:
            return str(self.number(0, 7))

        def of_list() -> str:
            return f"{self.list_parameter()}[h % 2]"

        forms = [small, small, lambda: "h", lambda: "(h % 2 + 1)", lambda: "layer % 3", lambda: "heads", of_list]
        forms += [lambda: self.parameter("int", self.number(0, 9)), lambda: f"2 ** {self.number(0, 3)}"]
        forms += [lambda: f"log2({self.number(1, 9)})", lambda: f"len({self.list_parameter()})"]
        forms += [lambda: self.word(*s.numbers)] * (3 if s.numbers else 0)
        return self.pick(*forms)

    def list_parameter(self) -> str:
        """A [int] of two or more positive numbers."""
        for name, declaration in self.parameters.items():
            if ": [int]" in declaration and self.chance(60):
                return name
        return self.parameter("[int]", [self.number(1, 6) for _ in range(self.number(2, 4))])

    # -------------------------------------------------------------- positions and distances

    def position(self, s: Space, depth: int) -> str:
        """A number in the unit of the space, which may be negative."""
        if depth == 0 or self.chance(30):
            return self.word(s.q, s.k, s.q, s.k, f"({s.q} - {s.k})", "n", "(n - 1)")
        a = self.position(s, depth - 1)
        forms = [
            lambda: f"({a} + {self.integer(s)})",
            lambda: f"({a} - {self.integer(s)})",
            lambda: f"({a} - {self.position(s, depth - 1)})",
            lambda: f"{a} * {self.number(1, 3)}",
            lambda: f"{a} // {self.positive(s)}",
            lambda: f"{a} % {self.positive(s, 2)}",
            lambda: f"-{a}",
            lambda: f"abs({a})",
            lambda: f"cdiv({a}, {self.positive(s)})",
            lambda: f"{self.word('min', 'max')}({a}, {self.position(s, depth - 1)})",
            lambda: f"clamp({a}, {self.number(0, 2)}, n - {self.number(1, 3)})",
            lambda: f"({a} if {self.static(s)} else {self.position(s, depth - 1)})",
        ]
        return f"({self.pick(*forms)})"

    # -------------------------------------------------------------- conditions

    def static(self, s: Space) -> str:
        """A condition that no cell takes part in."""
        return self.pick(
            lambda: "h % 2 == 0",
            lambda: f"h < {self.number(1, 3)}",
            lambda: "layer % 2 == 1",
            lambda: "heads > 1 and not h == 1",
            lambda: f"n > {self.number(2, 12)}",
            lambda: f"h in ({self.number(0, 2)}, 3)",
            lambda: self.parameter("bool", self.chance(50)),
        )

    def condition(self, s: Space, depth: int) -> str:
        if depth == 0 or self.chance(45):
            return self.pick(*self.simple_conditions(s))
        a = self.condition(s, depth - 1)
        return self.pick(
            lambda: f"({a} and {self.condition(s, depth - 1)})",
            lambda: f"({a} or {self.condition(s, depth - 1)})",
            lambda: f"(not {a})",
            lambda: f"({a} if {self.condition(s, 0)} else {self.condition(s, depth - 1)})",
        )

    def simple_conditions(self, s: Space) -> list[Callable[[], str]]:
        q, k = s.q, s.k
        number, size = lambda: self.integer(s), lambda: self.positive(s, 2)
        compare = lambda: self.word("<", "<=", ">", ">=", "==", "!=")
        forms = [
            lambda: f"abs({q} - {k}) <= {number()}",
            lambda: f"{number()} <= {q} - {k} < {self.positive(s, 3, 12)}",
            lambda: f"{q} - {k} {self.word('in', 'not in')} {self.number(0, 3)}..{self.positive(s, 4, 12)}",
            lambda: f"({q} - {k}) % {size()} == {number()} % 2",
            lambda: f"{self.word(q, k)} % {size()} {compare()} {number()}",
            lambda: f"{q} % {(w := size())} == {k} % {w}",
            lambda: f"{q} // {(w := size())} {compare()} {k} // {w}",
            lambda: f"{k} {compare()} {q}",
            lambda: f"({q} < {number()} or {k} >= n - {number()})",
            lambda: f"{self.word(q, k)} in (0, n - 1, {number()})",
            lambda: f"abs({q} - {k}) in {self.list_parameter()}",
            lambda: f"any({q} ^ {k} == 2 ** i for i in 0..log2(n))",
            lambda: f"({q} ^ {k}) {compare()} {number()}",
            lambda: f"{k} % {self.number(2, 4)} == h % {self.number(2, 4)}",
            lambda: f"{self.position(s, 2)} {compare()} {self.position(s, 1)}",
            lambda: f"{self.position(s, 2)} {compare()} {number()}",
            lambda: self.quantified(s),
            lambda: self.binding(s, ("condition",), lambda there: self.condition(there, 1)),
            lambda: f"{self.binding(s, ('number',), lambda there: self.position(there, 2))} {compare()} {number()}",
        ]
        if s.depth == 0 and not s.plain:
            forms += [lambda: f"abs({q} - {k}) <= {self.parameter('tokens', self.window())} // {self.number(1, 2)}"]
        if s.grid:
            forms += [lambda: self.on_grid(s)] * 12
        if not s.plain:
            close = "close_blocks" if s.depth else "close"
            forms += [lambda: f"{self.use(close)}({q}, {k})"]
        forms += [lambda: f"{self.use('parity')}({number()}) == 0 and {k} <= {q}"]
        if self.tensors_allowed and s.length:
            forms += [lambda: self.of_tensor(s)] * 6
        if self.guarded:
            forms += [lambda: self.behind_guard(s)] * 20
        if self.careless:
            forms += [lambda: self.without_guard(s)] * 30
        return forms

    def quantified(self, s: Space) -> str:
        i = self.fresh("i")
        word = self.word("any", "any", "all")
        source = self.pick(lambda: self.list_parameter(), lambda: f"{self.number(1, 2)}..{self.number(3, 5)}")
        test = self.pick(
            lambda: f"abs({s.q} - {s.k}) == {i}",
            lambda: f"({s.q} + {i}) % {self.number(2, 5)} != {s.k} % 2",
            lambda: f"{s.k} <= {s.q} + {i} and ({s.q} - {s.k}) % {i} == 0",
        )
        return f"{word}({test} for {i} in {source})"

    def on_grid(self, s: Space) -> str:
        axis = self.word("y", "x")
        q, k = f"{s.q}.{axis}", f"{s.k}.{axis}"
        return self.pick(
            lambda: f"abs({q} - {k}) <= {self.number(0, 2)}",
            lambda: f"(abs({s.q}.y - {s.k}.y) <= 1 and abs({s.q}.x - {s.k}.x) <= {self.integer(s)})",
            lambda: f"{q} % 2 == {k} % {self.number(1, 3)}",
            lambda: f"{s.q}.y + {s.q}.x >= {s.k}.y + {s.k}.x",
        )

    def of_tensor(self, s: Space) -> str:
        q, k, length = s.q, s.k, s.length
        batched = self.chance(60)
        return self.pick(
            lambda: f"{(t := self.tensor('doc', 'int', (length,), batched))}[{q}] == {t}[{k}]",
            lambda: f"{self.tensor('flag', 'bool', (length,), batched)}[{self.word(q, k)}]",
            lambda: f"{self.tensor('table', 'bool', ('heads', length), batched)}[h, {self.word(q, k)}]",
            lambda: f"{self.tensor('weight', 'float', (length, length), batched)}[{q}, {k}] > 0.25",
            lambda: f"({q} - {k} <= {self.tensor('width', 'int', (), True)} and {k} <= {q})",
        )

    def without_guard(self, s: Space) -> str:
        """What is an error in some cells at some lengths."""
        q, k = s.q, s.k
        forms = [
            lambda: f"{q} % ({k} - {self.number(3, 12)}) == 0",
            lambda: f"({q} + 1) // ({q} - {k} + {self.number(4, 12)}) <= 1",
            lambda: f"{self.list_parameter()}[{q} // {self.number(2, 6)}] > {k}",
            lambda: f"log2({q} + {self.number(0, 1)}) <= {k}",
            lambda: f"2 ** ({q} - {k} + {self.number(3, 14)}) < {self.number(1, 99)}",
            lambda: f"({k} > 0 and {q} % {k} == 0)",
            lambda: f"({q} % {k} == 0 and {k} > 0)",
            lambda: f"({q} % {k} == 0 if {k} > 0 else False)",
        ]
        if self.tensors_allowed and s.length:
            table = lambda: self.tensor("table", "bool", ("heads", s.length), self.chance(50))
            forms += [lambda: f"{table()}[h + {self.number(0, 1)}, {k}]"]
            forms += [lambda: f"{table()}[h, {q} - {self.number(0, 1)}]"]
        return self.pick(*forms)

    def behind_guard(self, s: Space) -> str:
        """What would be an error without its guard."""
        q, k = s.q, s.k
        forms = [
            lambda: f"({k} > 0 and {q} % {k} == 0)",
            lambda: f"({k} <= 2 or ({q} + 1) // ({k} - 2) == 1)",
            lambda: f"({q} // ({q} - {k}) if {q} != {k} else 1) % 2 == 1",
            lambda: f"({q} < len({(p := self.list_parameter())}) and {p}[{q}] >= {k})",
            lambda: f"({q} > {k} and log2({q} - {k}) <= 2)",
        ]
        if self.tensors_allowed and s.length:
            table = lambda: self.tensor("table", "bool", ("heads", s.length), self.chance(50))
            forms += [lambda: f"({k} <= {q} and {table()}[h, {q} - {k}])"] * 2
            forms += [lambda: f"({table()}[h, {q} + 1] if {q} + 1 < n else {k} == {q})"]
        return self.pick(*forms)

    # -------------------------------------------------------------- bindings

    def binding(self, s: Space, kinds: tuple[str, ...], write: Callable[[Space], str]) -> str:
        """The name of a binding of one of these kinds in this space; a new one is of the last kind."""
        there = replace(s, q="q", k="k", numbers=())
        known = [name for name, (space, kind, _) in self.where.items() if space == there and kind in kinds]
        if known and self.chance(50):
            return self.word(*known)
        text = write(there)
        name = self.fresh("w")
        self.where[name] = there, kinds[-1], text
        return name


def literal(value: Any) -> str:
    """A parameter's value as program text."""
    match value:
        case list():
            return f"[{', '.join(map(literal, value))}]"
        case tuple():
            return f"({', '.join(map(literal, value))})"
        case _:
            return str(value)
