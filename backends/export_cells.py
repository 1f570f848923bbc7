"""Prints the cells of a pattern: expressions of a query and a key over the words of analysis/numbers.py.

Program text never gets in: names are made here, numbers are printed by `repr`, and the names of run-time tensors, which
are identifiers, stand behind a prefix.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from patternc import ir
from patternc.rewrite import children, walk

_COMPARE, _OR, _XOR, _AND, _PLUS, _TIMES, _UNARY, _POWER, _ATOM = range(9)
_BINDS = {"+": _PLUS, "-": _PLUS, "*": _TIMES, "//": _TIMES, "%": _TIMES, "**": _POWER, "^": _XOR}
_LONG = 80
"""Characters from which an expression gets a name and a line of its own."""
COMPUTED_AHEAD = (*ir.RELATIONS, ir.Choose, ir.Family)


@dataclass(frozen=True)
class Text:
    """Python text of an expression, and how tightly its outermost operator binds."""

    text: str
    binds: int = _ATOM

    def within(self, level: int) -> str:
        """In parentheses where an operator of that level would tear it apart."""
        return self.text if self.binds >= level else f"({self.text})"


@dataclass(frozen=True)
class Space:
    """An index space, by the names that hold its sizes."""

    n: tuple[str, ...] = ("n",)
    """The number of keys of every space, from tokens down to this one."""
    first: str = "first"
    """The first query."""
    size: str = "1"
    """The size of the blocks that lead here from the space above."""
    above: Space | None = None


def table_name(tensor: str) -> str:
    assert tensor.isidentifier(), "the parser lets no other name through"
    return f"table_{tensor}" if tensor.isascii() else f"table_{tensor.encode().hex()}"


class Lines:
    """The lines of one function, and the numbers of the names made in it."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._numbers: Counter[str] = Counter()

    def add(self, indent: int, line: str) -> None:
        self._lines.append("    " * indent + line)

    def blank(self) -> None:
        """An empty line, except after the first line of a function and after an empty line."""
        if self._lines[-1] and not self._lines[-1].endswith("):"):
            self._lines.append("")

    def name(self, kind: str) -> str:
        """A name that is new in this function: kind_0, kind_1, …"""
        self._numbers[kind] += 1
        return f"{kind}_{self._numbers[kind] - 1}"

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"


@dataclass(frozen=True)
class Statements:
    """A place in a function where statements go, in one index space."""

    lines: Lines
    indent: int
    space: Space
    bound: dict[str, str] = field(default_factory=dict)
    """The names of quantified variables."""
    functions: dict[tuple[int, Space], str] = field(default_factory=dict)
    """The names of relations, choices and families, by node."""
    spaces: dict[tuple[int, Space], Space] = field(default_factory=dict)
    """The spaces of blocks, by the node of their size."""

    def add(self, line: str) -> None:
        self.lines.add(self.indent, line)

    def assigned(self, kind: str, text: str) -> str:
        """A new name for the value of an expression."""
        name = self.lines.name(kind)
        self.add(f"{name} = {text}")
        return name


# ------------------------------------------------------------------ cells


@dataclass(frozen=True)
class PerCell:
    """Statements and expressions of one function of a query and a key."""

    at: Statements
    q: str
    k: str
    uses: Counter[int]
    known: dict[tuple[int, Space], Text] = field(default_factory=dict)
    """Names of values that are computed."""
    positions: dict[Space, tuple[str, str]] = field(default_factory=dict)
    """Names of the query and the key of inner spaces."""

    def pattern(self, node: ir.Pattern) -> Text:
        """The expression of a pattern; what several others use is computed once."""
        text = self.known.get((id(node), self.at.space))
        return self._kept(node, self._pattern(node)) if text is None else text

    def scalar(self, node: ir.Scalar) -> Text:
        """The expression of a scalar; what several others use is computed once."""
        text = self.known.get((id(node), self.at.space))
        return self._kept(node, self._scalar(node)) if text is None else text

    def _kept(self, node: ir.Node, text: Text, *, named: bool = False) -> Text:
        named = named or self.uses[id(node)] > 1 or len(text.text) > 2 * _LONG
        if named and not isinstance(node, ir.Const | ir.Var):
            text = self.known[id(node), self.at.space] = Text(self.at.assigned("x", text.text))
        return text

    # -------------------------------------------------------------- patterns

    def _pattern(self, node: ir.Pattern) -> Text:
        match node:
            case ir.Where(condition):
                return Text(f"indicator({self.scalar(condition).text})")
            case ir.Union(args):
                return self._folded([self.pattern(a) for a in args])
            case ir.Sum(args):
                return self._joined("+", _PLUS, [self.pattern(a) for a in args], "0")
            case ir.Product(args):
                return self._joined("*", _TIMES, [self.pattern(a) for a in args], "1")
            case ir.Complement(a):
                return Text(f"1 - {self.pattern(a).within(_TIMES)}", _PLUS)
            case ir.Support(a):
                return Text(f"minimum({self.pattern(a).text}, 1)")
            case ir.Blocks(size, body):
                return self._inside(self.at.spaces[id(size), self.at.space]).pattern(body)
        name = self.at.functions[id(node), self.at.space]
        if isinstance(node, ir.Choose | ir.Family):
            return Text(f"{name}({self.q}, {self.k})")
        return Text(f"indicator(member({name}, {self.q}, {self.k}))")

    def _inside(self, space: Space) -> PerCell:
        if space not in self.positions:
            q = self.at.assigned("q", f"{self.q} // {space.size}")
            k = self.at.assigned("k", f"{self.k} // {space.size}")
            self.positions[space] = q, k
        q, k = self.positions[space]
        return replace(self, at=replace(self.at, space=space), q=q, k=k)

    def _folded(self, args: Sequence[Text]) -> Text:
        """The largest of the arguments; 0 of none."""
        args = self._shortened(args, len("maximum()"))
        result = args[0] if args else Text("0")
        for arg in args[1:]:
            result = Text(f"maximum({self._named_if(result, _LONG).text}, {arg.text})")
        return result

    def _joined(self, operator: str, level: int, args: Sequence[Text], nothing: str) -> Text:
        args = self._shortened(args)
        result = args[0] if args else Text(nothing)
        for arg in args[1:]:
            left = self._named_if(result, _LONG).within(level)
            result = Text(f"{left} {operator} {arg.within(level + 1)}", level)
        return result

    def _shortened(self, args: Sequence[Text], more: int = 0) -> Sequence[Text]:
        """The arguments, the longer ones by name if all together, with `more` around each, are too long for a line."""
        if sum(len(arg.text) + more for arg in args) <= _LONG:
            return args
        return [self._named_if(arg, _LONG // 2) for arg in args]

    def _named_if(self, text: Text, longer_than: int) -> Text:
        return Text(self.at.assigned("x", text.text)) if len(text.text) > longer_than else text

    # -------------------------------------------------------------- scalars

    def _scalar(self, node: ir.Scalar) -> Text:
        match node:
            case ir.Const(value):
                return _number(value)
            case ir.Var(name, depth):
                return self._variable(name, depth)
            case ir.Unary(op, a):
                return self._unary(op, self.scalar(a))
            case ir.Binary("min" | "max" as op, a, b):
                return Text(f"{op}imum({self.scalar(a).text}, {self.scalar(b).text})")
            case ir.Binary(op, a, b):
                level = _BINDS[op]
                left, right = self._operands(a, b)
                if op == "**":  # leans to the right
                    return Text(f"{left.within(_ATOM)} ** {right.within(_ATOM)}", level)
                return Text(f"{left.within(level)} {op} {right.within(level + 1)}", level)
            case ir.Compare(op, a, b):
                left, right = self._operands(a, b)
                return Text(f"{left.within(_OR)} {op} {right.within(_OR)}", _COMPARE)
            case ir.And(args):
                return self._joined("&", _AND, [self.scalar(a) for a in args], "True")
            case ir.Or(args):
                return self._joined("|", _OR, [self.scalar(a) for a in args], "False")
            case ir.If(condition, then, orelse):
                return self._called("select", condition, then, orelse)
            case ir.Pick(index, items):
                shown = ", ".join(self.scalar(item).text for item in items)
                return Text(f"pick({self.scalar(index).text}, ({shown}{',' * (len(items) == 1)}))")
            case ir.Read(tensor, indices):
                return Text(f"read({', '.join([table_name(tensor), *(self.scalar(i).text for i in indices)])})")
            case ir.Quantified():
                return self._quantified(node)
        raise AssertionError(f"a program given to a backend has no {type(node).__name__}")

    def _called(self, function: str, *args: ir.Scalar) -> Text:
        return Text(f"{function}({', '.join(self.scalar(a).text for a in args)})")

    def _operands(self, a: ir.Scalar, b: ir.Scalar) -> tuple[Text, Text]:
        left, right = self.scalar(a), self.scalar(b)
        if isinstance(a, ir.Const) and isinstance(b, ir.Const):  # not by Python's rules: 1 // 0 would raise
            left = Text(f"constant({left.text})")
        return left, right

    def _variable(self, name: str, depth: int) -> Text:
        if name in self.at.bound:
            return Text(self.at.bound[name])
        if name == "n":
            return Text(f"constant({self.at.space.n[depth]})")
        assert name in ("q", "k"), f"{name} has no value in a closed program"
        return Text(self.q if name == "q" else self.k)

    def _unary(self, op: str, a: Text) -> Text:
        if op == "-":
            return Text(f"-{a.within(_UNARY)}", _UNARY)
        return Text(f"{'negate' if op == 'not' else op}({a.text})")

    def _quantified(self, node: ir.Quantified) -> Text:
        self._hoist(node.body)
        lo, hi = self.scalar(node.lo).text, self.scalar(node.hi).text
        name, variable = self.at.lines.name("each"), self.at.lines.name("i")
        self.at.lines.blank()
        self.at.add(f"def {name}({variable}):")
        bound = {**self.at.bound, node.variable: f"constant({variable})"}
        inside = replace(self.at, indent=self.at.indent + 1, bound=bound)
        inner = replace(self, at=inside, known=dict(self.known))
        inside.add(f"return {inner.scalar(node.body).text}")
        self.at.lines.blank()
        return Text(f"{'exists' if node.kind == 'any' else 'forall'}({lo}, {hi}, {name})")

    def _hoist(self, node: Any) -> None:
        """Name the parts of a quantifier's body that are the same for all its values."""
        free = {v.name for v in walk(node) if isinstance(v, ir.Var)}
        if not any("#" in name and name not in self.at.bound for name in free):
            if free & {"q", "k"} and (id(node), self.at.space) not in self.known:
                self._kept(node, self._scalar(node), named=True)
            return
        for child in children(node):
            self._hoist(child)


def _number(value: int | float | bool) -> Text:
    if isinstance(value, float) and math.isinf(value):
        return Text('float("inf")') if value > 0 else Text('-float("inf")', _UNARY)
    return Text(repr(value), _UNARY if value < 0 else _ATOM)
