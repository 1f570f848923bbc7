"""Writes the text of one typed program by many small choices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from drawn import Program
from scalars import HELPERS, ScalarWriter, Space


class Writer(ScalarWriter):
    """Chooses the text of one program, that of its patterns by itself."""

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
        return self.pick(*forms, helper, helper)

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

    def set_forms(self, s: Space, depth: int) -> list[Callable[[], str]]:
        def part(bag: bool = False) -> str:
            return self.pattern(s, depth - 1, bag)

        return [
            lambda: f"({part()} | {part()})",
            lambda: f"({part()} & {part()})",
            lambda: f"({part()} - {part()})",
            lambda: f"~{part()}",
            lambda: self.inside_blocks(s, depth, False),
            lambda: f"(cover({self.positive(s, 1, 5)}) {part()})",
            lambda: self.choice(s, depth, False),
            lambda: self.over_list(s, depth, "union"),
            lambda: self.selection(s, depth),
            lambda: f"support({part(True)})",
        ]

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
        return self.pick(*forms, over_segments, over_segments)

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
        body = self.pattern(Space(grid=self.grid), self.depth, self.chance(40))
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
