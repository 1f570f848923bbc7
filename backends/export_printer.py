"""Prints patterns of the IR as Python functions, for saved modules and for reading."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from patternc import ir
from patternc.backends.export_cells import COMPUTED_AHEAD, Lines, PerCell, Space, Statements, table_name
from patternc.rewrite import children, uses_of, walk

Blocked = tuple[ir.Pattern, tuple[ir.Scalar, ...]]
"""A cover or a selection, and the sizes of the blocks that lead to it."""


def print_pattern(pattern: ir.Pattern, name: str, docstring: str, left: Sequence[Blocked] | None = None) -> str:
    """`def name(n, first, h, tables, xp)`, see torch_saved; equal subtrees must be one object (evaluate.shared). The
    function leaves the covers and selections `left` with what it returns, unless that is None."""
    ahead = _Ahead(Lines(), 1, Space(), asking=_asking_sizes(pattern))
    ahead.lines.add(0, f"def {name}(n, first, h, tables, xp):")
    ahead.add(f'"""{docstring}"""')
    for tensor in tensors_of(pattern):
        key = json.dumps(tensor)
        ahead.add(f"{table_name(tensor)} = tables[{key}]")
    if left is None:
        ahead.returning(pattern)
    else:
        ahead.leaving(pattern, left)
    return ahead.lines.text()


def print_uniform(node: ir.Scalar) -> str:
    """An expression of n alone, at the depth of tokens."""
    return _Ahead(Lines(), 0, Space()).uniform(node)


def tensors_of(node: ir.Node) -> list[str]:
    """The run-time tensors that are read."""
    return sorted({inner.tensor for inner in walk(node) if isinstance(inner, ir.Read)})


# ------------------------------------------------------------------ what is computed once for a length


@dataclass(frozen=True)
class _Ahead(Statements):
    """Statements in one space that come before all cells: sizes, relations, choices."""

    asking: frozenset[int] = frozenset()
    """Sizes of blocks whose inner space has to have its lengths."""

    def uniform(self, node: ir.Scalar) -> str:
        return PerCell(self, "", "", Counter()).scalar(node).text

    def returning(self, pattern: ir.Pattern) -> None:
        """The rest of a function that returns the cells of a pattern."""
        self.prepare(pattern)
        cells = self.cells(pattern)
        self.add(f"return {cells}")

    def leaving(self, pattern: ir.Pattern, left: Sequence[Blocked]) -> None:
        """The same, with covers and selections that others want to see."""
        self.prepare(pattern)
        names = []
        for node, sizes in left:
            at = self
            for size in sizes:
                at = replace(at, space=at._inner_space(size))
            at.prepare(node)
            names.append(at.functions[id(node), at.space])
        cells = self.cells(pattern)
        self.add(f"return leaving({', '.join([cells, *names])})")

    def cells(self, node: ir.Pattern | ir.Scalar) -> str:
        """The name of a function of q and k for what has been prepared."""
        name = self.lines.name("cells" if isinstance(node, ir.Pattern) else "score")
        self.lines.blank()
        self.add(f"def {name}(q, k):")
        inner = PerCell(replace(self, indent=self.indent + 1), "q", "k", uses_of(node, COMPUTED_AHEAD))
        result = inner.pattern(node) if isinstance(node, ir.Pattern) else inner.scalar(node)
        inner.at.add(f"return {result.text}")
        self.lines.blank()
        return name

    def prepare(self, node: ir.Node) -> None:
        """All that the cells of a pattern need."""
        match node:
            case ir.Where():
                pass
            case ir.Blocks(size, body):
                replace(self, space=self._inner_space(size)).prepare(body)
            case _ if isinstance(node, COMPUTED_AHEAD):
                if (id(node), self.space) not in self.functions:
                    self.functions[id(node), self.space] = self._function(node)
            case _:
                for child in children(node):
                    self.prepare(child)

    def _inner_space(self, size: ir.Scalar) -> Space:
        key, above = (id(size), self.space), self.space
        if key not in self.spaces:
            text, n, first = self._size(size), "", ""
            if id(size) in self.asking:
                n = self.assigned("n", f"-(-{above.n[-1]} // {text})")
                first = self.assigned("first", f"{above.first} // {text}")
            self.spaces[key] = Space((*above.n, n), first, text, above)
        return self.spaces[key]

    def _size(self, size: ir.Scalar) -> str:
        if isinstance(size, ir.Const):
            return repr(int(size.value))
        return self.assigned("size", f"block_size({self.uniform(size)})")

    def _count(self, count: ir.Scalar) -> str:
        return repr(count.value) if isinstance(count, ir.Const) else f"selection_count({self.uniform(count)})"

    def _function(self, node: ir.Pattern) -> str:
        rest = f"n={self.space.n[-1]}, first={self.space.first}, xp=xp)"
        match node:
            case ir.Cover(size, body):
                text = self._size(size)
                whole = self
                if _asks_for_lengths(body):
                    first = self.assigned("first", f"{self.space.first} // {text} * {text}")
                    whole = replace(self, space=replace(self.space, first=first))
                whole.prepare(body)
                return self.assigned("cover", f"cover_relation({whole.cells(body)}, size={text}, {rest}")
            case ir.Top(count, by, of):
                self.prepare(of)
                functions = f"{self.cells(of)}, {self.cells(by)}"
                return self.assigned("top", f"top_relation({functions}, count={self._count(count)}, {rest}")
            case ir.Sample(count, of, seed):
                self.prepare(of)
                start = repr(seed.value) if isinstance(seed, ir.Const) else f"as_int({self.uniform(seed)})"
                drawn = f"count={self._count(count)}, seed={start}, h=h"
                return self.assigned("sample", f"sample_relation({self.cells(of)}, {drawn}, {rest}")
            case ir.Choose(condition, then, orelse):
                yes, no = self._maker("then", then), self._maker("orelse", orelse)
                return self.assigned("choice", f"{yes}() if holds({self.uniform(condition)}) else {no}()")
            case ir.Family(kind, variable, lo, hi, body):
                arm = self._maker("arm", body, variable)
                gather = "united" if kind == "union" else "summed"
                return self.assigned("family", f"{gather}({self.uniform(lo)}, {self.uniform(hi)}, {arm})")
        raise AssertionError(f"{type(node).__name__} needs nothing computed ahead")

    def _maker(self, kind: str, pattern: ir.Pattern, variable: str | None = None) -> str:
        """A function, of a quantified variable if there is one, that returns the cells of a pattern."""
        name = self.lines.name(kind)
        argument = "" if variable is None else self.lines.name("i")
        self.lines.blank()
        self.add(f"def {name}({argument}):")
        bound = self.bound if variable is None else {**self.bound, variable: f"constant({argument})"}
        own: dict[str, Any] = {"functions": dict(self.functions), "spaces": dict(self.spaces)}
        replace(self, indent=self.indent + 1, bound=bound, **own).returning(pattern)
        self.lines.blank()
        return name


def _asking_sizes(pattern: ir.Pattern) -> frozenset[int]:
    nodes = walk(pattern)
    return frozenset(id(node.size) for node in nodes if isinstance(node, ir.Blocks) and _asks_for_lengths(node.body))


def _asks_for_lengths(body: ir.Pattern) -> bool:
    """Whether a pattern needs the sizes of the spaces that it stands in."""
    return any(
        isinstance(node, COMPUTED_AHEAD) or (isinstance(node, ir.Var) and node.name == "n") for node in walk(body)
    )
