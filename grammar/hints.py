from __future__ import annotations

from lark.exceptions import UnexpectedInput

from patternc.errors import Code, Diagnostic
from patternc.grammar.scan import CLOSING, OPENING, Lexemes
from patternc.source import Source, Span

MAX_DEPTH = 200


def too_deep(span: Span) -> Diagnostic:
    """The refusal of an expression that nests too deep."""
    return Diagnostic(
        Code.TOO_DEEP,
        f"the expression is more than {MAX_DEPTH} levels deep",
        span,
        hints=("a long chain can be written over a list: union(… for x in xs), sum, any or all",),
    )


def too_many_brackets(source: Source, lexemes: Lexemes) -> Diagnostic | None:
    """The refusal of brackets that nest too deep, before they reach the parser."""
    depth = 0
    for lexeme in lexemes:
        depth += (lexeme.text in OPENING) - (lexeme.text in CLOSING)
        if depth > MAX_DEPTH:
            return too_deep(Span(source, lexeme.start, lexeme.end))
    return None


def explain(source: Source, lexemes: Lexemes, error: UnexpectedInput) -> Diagnostic:
    place = lexemes[0].start + (error.pos_in_stream if error.pos_in_stream is not None else 0)
    return Diagnostic(Code.UNEXPECTED, f"syntax error {error}", Span(source, place, place + 1))
