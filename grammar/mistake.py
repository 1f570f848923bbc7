"""A syntax error as the hints look at it: what stands around it, which brackets are open, what was expected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from patternc.errors import Code, Diagnostic
from patternc.grammar.scan import CLOSING, KEYWORDS, OPENING, Lexeme, Lexemes
from patternc.source import Source, Span

QUOTED = 40
"""Characters of the program that a message quotes at most."""

OPERAND_WORDS = frozenset(["match", "not", "blocks", "cover", "True", "False", "inf"])
"""Keywords with which an expression may start."""


def quote(text: str) -> str:
    """Text of the program within a message, cut if it is long."""
    first, *rest = text.splitlines() or [""]
    cut = rest or len(first) > QUOTED
    return f"`{first[:QUOTED].rstrip()}…`" if cut else f"`{first}`"


@dataclass(frozen=True)
class Mistake:
    """The lexeme `index` of an item cannot stand where it stands (the item ends too early if there is none)."""

    source: Source
    lexemes: Lexemes
    index: int
    expected: frozenset[str]
    """The terminals of spat.lark that could."""

    def at(self, offset: int) -> Lexeme | None:
        """The lexeme so many places further on."""
        i = self.index + offset
        return self.lexemes[i] if 0 <= i < len(self.lexemes) else None

    def text(self, offset: int = 0) -> str:
        """The text of that lexeme, empty if there is none."""
        lexeme = self.at(offset)
        return lexeme.text if lexeme else ""

    @property
    def found(self) -> Lexeme | None:
        return self.at(0)

    @property
    def here(self) -> Span:
        """The lexeme that cannot stand here; at the end, the place just past the last one."""
        return self.span(self.found) if self.found else self.past

    @property
    def past(self) -> Span:
        """The place just past the lexeme before."""
        end = self.lexemes[self.index - 1].end if self.index else self.lexemes[0].start
        return Span(self.source, end, end)

    def span(self, lexeme: Lexeme) -> Span:
        return Span(self.source, lexeme.start, lexeme.end)

    def wants(self, *terminals: str) -> bool:
        """Whether one of the terminals could stand here."""
        return not self.expected.isdisjoint(terminals)

    @property
    def wants_operand(self) -> bool:
        """An expression could start here."""
        return "NUMBER" in self.expected

    @property
    def ends_operand(self) -> bool:
        """An expression could end here, and be followed by an operator."""
        return "VBAR" in self.expected

    @property
    def starts_operand(self) -> bool:
        """What was found could start an expression (`(` and `[` could too, but mean a call or an index)."""
        found = self.found
        if found is None:
            return False
        word = found.kind == "word" and (found.text not in KEYWORDS or found.text in OPERAND_WORDS)
        return word or found.kind == "number" or found.text in ("{", "~")

    @property
    def touches(self) -> bool:
        """No space stands between this lexeme and the one before."""
        before = self.at(-1)
        return before is not None and self.found is not None and before.end == self.found.start

    @cached_property
    def brackets(self) -> list[Lexeme]:
        """The brackets open here, outermost first."""
        return _open(self.lexemes[: self.index])

    @property
    def inner(self) -> str:
        """The innermost open bracket."""
        return self.brackets[-1].text if self.brackets else ""

    @cached_property
    def inside(self) -> Lexemes:
        """What stands between the innermost open bracket and here, without what stands in brackets itself."""
        start = self.lexemes.index(self.brackets[-1]) + 1 if self.brackets else 0
        return _outside_brackets(self.lexemes[start : self.index])

    @cached_property
    def never_closed(self) -> set[Lexeme]:
        """The brackets of the item without a partner."""
        return set(_open(self.lexemes))

    def report(self, code: Code, message: str, span: Span | None = None, label: str = "", **more: Any) -> Diagnostic:
        """The diagnostic, here if no other place is given. `hint` is short for one hint."""
        hint = more.pop("hint", None)
        if hint:
            more["hints"] = (hint,)
        return Diagnostic(code, message, span or self.here, label, **more)


def _open(lexemes: Iterable[Lexeme]) -> list[Lexeme]:
    """Opening brackets without a partner."""
    stack: list[Lexeme] = []
    for lexeme in lexemes:
        if lexeme.text in OPENING:
            stack.append(lexeme)
        elif lexeme.text in CLOSING and stack and stack[-1].text == CLOSING[lexeme.text]:
            stack.pop()
    return stack


def _outside_brackets(lexemes: Lexemes) -> Lexemes:
    kept, depth = [], 0
    for lexeme in lexemes:
        depth -= lexeme.text in CLOSING
        if depth == 0:
            kept.append(lexeme)
        depth += lexeme.text in OPENING
    return kept
