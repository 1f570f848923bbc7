"""Text of Triton expressions, and the lines of the function that they stand in."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, count

COMPARE, OR, XOR, AND, SHIFT, PLUS, TIMES, UNARY, ATOM = range(9)
"""How tightly operators bind, as in Python."""
LONG = 80
"""Characters from which an expression gets a name and a line of its own."""


@dataclass(frozen=True)
class Text:
    """An expression, and how tightly its outermost operator binds."""

    text: str
    binds: int = ATOM

    def within(self, level: int) -> str:
        """In parentheses where an operator of that level would tear it apart."""
        return self.text if self.binds >= level else f"({self.text})"


TRUE, FALSE = Text("True"), Text("False")


def both(a: Text, b: Text) -> Text:
    """`a and b` of conditions without side effects."""
    if FALSE in (a, b):
        return FALSE
    if a in (TRUE, b):
        return b
    return a if b == TRUE else Text(f"{a.within(AND)} & {b.within(SHIFT)}", AND)


def either(a: Text, b: Text) -> Text:
    """`a or b` of conditions without side effects."""
    if TRUE in (a, b):
        return TRUE
    if a in (FALSE, b):
        return b
    return a if b == FALSE else Text(f"{a.within(OR)} | {b.within(XOR)}", OR)


def opposite(a: Text) -> Text:
    """`not a` of a condition."""
    if a in (TRUE, FALSE):
        return FALSE if a == TRUE else TRUE
    return Text(f"~{a.within(UNARY)}", UNARY)


class Lines:
    """The lines of one function, and the names made in it."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._taken: set[str] = set()
        self.indent = 1

    def __len__(self) -> int:
        """Characters."""
        return sum(map(len, self._lines))

    def add(self, line: str) -> None:
        self._lines.append("    " * self.indent + line)

    def name(self, kind: str) -> str:
        """A name that is new in this function: kind, kind_2, kind_3, …"""
        names = chain([kind], (f"{kind}_{i}" for i in count(2)))
        name = next(name for name in names if name not in self._taken)
        self._taken.add(name)
        return name

    def assigned(self, kind: str, text: str) -> str:
        """A new name for the value of an expression."""
        name = self.name(kind)
        self.add(f"{name} = {text}")
        return name

    def returned(self, text: str) -> None:
        """Ends the function; a value that was only just given a name needs none."""
        given = f"    {text} = "
        if text.isidentifier() and self._lines and self._lines[-1].startswith(given):
            text = self._lines.pop().removeprefix(given)
        self.add(f"return {text}")

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"
