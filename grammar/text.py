"""Which characters and how much text a program may have, and how deep it may nest."""

from __future__ import annotations

import re
import unicodedata

from patternc.errors import Code, Diagnostic
from patternc.grammar.scan import CLOSING, OPENING, Lexemes
from patternc.source import Source, Span

MAX_BYTES = 1 << 20
MAX_LEXEMES = 100_000
"""Words, numbers and signs of one text: what is parsed and checked within seconds."""
MAX_DEPTH = 200
"""Levels of nesting: brackets, prefixes, and each operator of a chain."""

_BIDIRECTIONAL = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_REFUSED = re.compile(rf"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff{_BIDIRECTIONAL}\ud800-\udfff]")
_NAMES = {"\0": "NUL", "\r": "CARRIAGE RETURN without LINE FEED", "\ufeff": "BYTE ORDER MARK", "\x1b": "ESCAPE"}


def too_large(source: Source, bound: str) -> Diagnostic:
    """The refusal of a text beyond one of the bounds."""
    return Diagnostic(
        Code.TEXT_TOO_LARGE,
        f"the program is too large: at most {bound} are read",
        Span(source, 0, 0),
        hints=("split it over several files and `import` them",),
    )


def _refusal(source: Source, place: int) -> Diagnostic:
    character, span = source.text[place], Span(source, place, place + 1)
    number = f"U+{ord(character):04X}"
    if "\ud800" <= character <= "\udfff":
        return Diagnostic(Code.NOT_UTF8, f"the text has half a character, {number}, which UTF-8 cannot hold", span)
    name = _NAMES.get(character) or unicodedata.name(character, "a control character")
    return Diagnostic(
        Code.CONTROL_CHARACTER,
        f"the text has an invisible character, {number} ({name})",
        span,
        label="here",
        hints=(_hint(character),),
    )


def _hint(character: str) -> str:
    if character == "\ufeff":
        return "save the file as UTF-8 without a byte order mark"
    if re.match(f"[{_BIDIRECTIONAL}]", character):
        return "remove it: it makes text look different from what is compiled"
    return "remove it: only spaces, tabs and line ends may stand between words"


def text_mistakes(source: Source) -> list[Diagnostic]:
    """What is wrong with the text as such; such a text is not parsed. Each character is reported once."""
    if len(source.text) > MAX_BYTES or len(source.text.encode(errors="replace")) > MAX_BYTES:
        return [too_large(source, "1 MiB of text")]
    first = {m.group(): m.start() for m in reversed(list(_REFUSED.finditer(source.text)))}
    return [_refusal(source, place) for place in sorted(first.values())]


def too_deep(span: Span) -> Diagnostic:
    """The refusal of an expression that nests too deep."""
    return Diagnostic(
        Code.TOO_DEEP,
        f"the expression is more than {MAX_DEPTH} levels deep",
        span,
        label=f"level {MAX_DEPTH + 1}",
        hints=("write a long chain over a list, as in `union(… for x in xs)`, or bind parts of it after `where`",),
    )


def too_deep_bracket(source: Source, lexemes: Lexemes) -> Span | None:
    """The first bracket that nests too deep, if one does; such an item need not reach the parser."""
    depth = 0
    for lexeme in lexemes:
        depth += (lexeme.text in OPENING) - (lexeme.text in CLOSING)
        if depth > MAX_DEPTH:
            return Span(source, lexeme.start, lexeme.end)
    return None
