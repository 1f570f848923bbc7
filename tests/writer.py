"""Writes the text of one typed program by many small choices.

By construction the program has a meaning in every cell: divisors are positive, list indices are in range, and what
may fail stands behind a guard.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from random import Random
from typing import Any

from drawn import Program, TensorSpec


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

    @property
    def unit(self) -> str:
        return "blocks" if self.depth else "tokens"


HELPERS = {
    "band": "pattern band(w: tokens, s: int = 1) = { q -> k : abs(q - k) <= w * s and (q - k) % s == 0 }",
    "segment": "pattern segment(w: tokens, r: int) = { i -> j : i // w == j // w and i % w % r == h % r }",
    "heads_of": "pattern heads_of(m: int) = match h % 2 { 0 => causal, else => { q -> k : q % m == k % m } }",
    "close": "fn close(a: tokens, b: tokens, w: int = 2) = far <= w\n  where far = abs(a - b)",
    "close_blocks": "fn close_blocks(a: blocks, b: blocks) = abs(a - b) <= 1",
    "parity": "fn parity(a: int) = a % 2",
}


class Writer:
    """Chooses the text of one program; helpers, parameters, bindings and tensors gather as they are used."""

    def __init__(
        self,
        seed: bytes,
        *,
        bags: bool = True,
        tensors: bool = True,
        guarded: bool = False,
        careless: bool = False,
        helpers: bool = True,
        grids: bool = True,
    ) -> None:
        self.seed, self.random = seed, Random(seed)
        tensors = tensors and self.chance(35)
        self.bags, self.tensors_allowed, self.guarded, self.helpers_allowed = bags, tensors, guarded, helpers
        self.careless = careless
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
        if self.helpers_allowed and not s.plain:
            close = "close_blocks" if s.depth else "close"
            forms += [lambda: f"{self.use(close)}({q}, {k})"]
        if self.helpers_allowed:
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

    # -------------------------------------------------------------- patterns

    def leaf(self, s: Space, depth: int) -> str:
        def builder() -> str:
            q, k = self.word("q k", "q k", "q k", "i j", "row col", "k q").split()
            return f"{{ {q} -> {k} : {self.condition(replace(s, q=q, k=k), depth)} }}"

        def helper() -> str:
            return self.pick(
                lambda: f"{self.use('band')}({self.positive(s)}, s = {self.number(1, 3)})",
                lambda: f"{self.use('band')}(w = {self.number(0, 4)})",
                lambda: f"{self.use('segment')}({self.positive(s)}, {self.number(1, 3)})",
                lambda: f"{self.use('heads_of')}({self.number(1, 4)})",
            )

        forms = [builder] * 8 + [lambda: "causal", lambda: "diagonal"]
        return self.pick(*forms, *[helper] * (2 if self.helpers_allowed else 0))

    def pattern(self, s: Space, depth: int, bag: bool = False) -> str:
        """A set, or if `bag` what may be a bag."""
        if depth == 0 or self.chance(20):
            return self.leaf(s, min(depth, 1) + 1)
        if self.chance(15):
            return self.bound(s, depth, bag)
        return self.pick(*(self.bag_forms(s, depth) if bag else self.set_forms(s, depth)))

    def bound(self, s: Space, depth: int, bag: bool) -> str:
        """A `where` binding, new or one that was made for the same space."""
        kinds = ("set", "bag") if bag else ("set",)
        return self.binding(s, kinds, lambda there: self.pattern(there, depth - 1, bag))

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

    def set_forms(self, s: Space, depth: int) -> list[Callable[[], str]]:
        def part(bag: bool = False) -> str:
            return self.pattern(s, depth - 1, bag)

        forms = [
            lambda: f"({part()} | {part()})",
            lambda: f"({part()} & {part()})",
            lambda: f"({part()} - {part()})",
            lambda: f"~{part()}",
            lambda: self.inside_blocks(s, depth, False),
            lambda: f"(cover({self.positive(s, 1, 5)}) {part()})",
            lambda: self.choice(s, depth, False),
            lambda: self.over_list(s, depth, "union"),
            lambda: self.selection(s, depth),
        ]
        return forms + [lambda: f"support({part(True)})"] * (1 if self.bags else 0)

    def bag_forms(self, s: Space, depth: int) -> list[Callable[[], str]]:
        def part() -> str:
            return self.pattern(s, depth - 1, True)

        return [
            lambda: f"({part()} + {part()})",
            lambda: f"({part()} & {part()})",
            lambda: self.inside_blocks(s, depth, True),
            lambda: self.choice(s, depth, True),
            lambda: self.over_list(s, depth, "sum"),
            lambda: self.pattern(s, depth - 1),
        ]

    def inside_blocks(self, s: Space, depth: int, bag: bool) -> str:
        size = self.positive(s, 1, 5)
        if self.tensors_allowed and s.depth == 0 and not s.plain:
            size = self.parameter("tokens", self.number(1, 5))  # an axis of cdiv(n, 4) would be counted in tokens
        length = f"cdiv({s.length}, {size})" if s.length else None
        inner = replace(s, depth=s.depth + 1, length=length, grid=False)
        return f"(blocks({size}) {self.pattern(inner, depth - 1, bag)})"

    def choice(self, s: Space, depth: int, bag: bool) -> str:
        def part() -> str:
            return self.pattern(s, depth - 1, bag)

        return self.pick(
            lambda: f"({part()} if {self.static(s)} else {part()})",
            lambda: f"match h % 2 {{ 0 => {part()}, 1 => {part()} }}",
            lambda: f"match h {{ 0 => {part()}, 1..3 => {part()}, else => causal }}",
            lambda: f"match layer % 3 {{ 0..2 => {part()}, else => {part()} }}",
        )

    def over_list(self, s: Space, depth: int, word: str) -> str:
        i, j = self.fresh("v"), self.fresh("v")

        def element(*names: str) -> str:
            return self.pattern(replace(s, numbers=(*s.numbers, *names)), depth - 1, word == "sum")

        def over_pairs() -> str:
            pairs = [(self.number(1, 6), self.number(1, 3)) for _ in range(self.number(0, 3))]
            name = self.parameter("[(int, int)]", pairs)
            return f"{word}({element(i, j)} for {i}, {j} in {name})"

        def over_segments() -> str:
            pairs = [(self.number(2, 8), self.number(1, 3)) for _ in range(self.number(1, 3))]
            unit = "int" if s.depth or s.plain else "tokens"
            name = self.parameter(f"[({unit}, int)]", pairs)
            return f"{word}({self.use('segment')}({i}, {j}) for {i}, {j} in {name})"

        forms = [over_pairs, lambda: f"{word}({element(i)} for {i} in {self.list_parameter()})"]
        forms += [lambda: f"{word}({element(i)} for {i} in {self.number(0, 2)}..{self.number(2, 4)})"]
        return self.pick(*forms, *[over_segments] * (2 if self.helpers_allowed else 0))

    def selection(self, s: Space, depth: int) -> str:
        of = f", of = {self.pattern(s, depth - 1)}" if self.chance(80) else ""
        count = str(self.number(0, 4))
        there = replace(s, q="q", k="k")  # `by` speaks of the space's own query and key

        def by_number() -> str:
            return f"top({count}, by = {self.position(there, 2)}{of})"

        def by_score() -> str:
            score = self.tensor("score", "float", ("heads", s.length, s.length), self.chance(60))
            return f"top({self.word(count, count, '0.37', '0.83')}, by = {score}[h, q, k]{of})"

        forms = [by_number, lambda: f"sample({count}{of}, seed = {self.number(0, 9)})"]
        return self.pick(*forms, *[by_score] * (2 if self.tensors_allowed and s.length else 0))

    # -------------------------------------------------------------- the whole text

    def program(self) -> Program:
        rows, columns = self.number(2, 5), self.number(2, 5)
        over = f" over (y: {rows}, x: {columns})" if self.grid else ""
        body = self.pattern(Space(grid=self.grid), self.depth, self.bags and self.chance(40))
        return self.around(body, over, rows * columns if self.grid else None)

    def around(self, body: str, over: str = "", n: int | None = None) -> Program:
        """The program of a body that this writer wrote."""
        parameters = ", ".join([*self.parameters.values(), *(t.declaration for t in self.tensors.values())])
        where = "\n        ".join(f"{name} = {text}" for name, (_, _, text) in self.where.items())
        lines = [HELPERS[h] for h in sorted(self.helpers)]
        lines += [f"pattern main({parameters}){over} = {body}" + (f"\n  where {where}" if where else "")]
        tensors = tuple(self.tensors.values())
        text = "\n".join(lines) + "\n"
        return Program(text, self.heads, self.layer, self.values, self.known, tensors, n, self.seed)


def literal(value: Any) -> str:
    """A parameter's value as program text."""
    match value:
        case list():
            return f"[{', '.join(map(literal, value))}]"
        case tuple():
            return f"({', '.join(map(literal, value))})"
        case _:
            return str(value)
