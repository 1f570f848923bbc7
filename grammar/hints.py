"""What to say about a syntax error: the first hint that knows the mistake, else what was found and expected."""

from __future__ import annotations

from bisect import bisect_right

from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from patternc.errors import Code, Diagnostic
from patternc.grammar.automaton import parser
from patternc.grammar.hints_forms import FORM_HINTS, unclosed
from patternc.grammar.hints_signs import SIGN_HINTS, assignment
from patternc.grammar.hints_words import ITEM_HINTS, WORD_HINTS, reserved_argument
from patternc.grammar.mistake import Mistake, quote
from patternc.grammar.scan import Lexemes
from patternc.source import Source

HINTS = (reserved_argument, *SIGN_HINTS, unclosed, assignment, *ITEM_HINTS, *FORM_HINTS, *WORD_HINTS)
"""In the order in which they are asked."""


def explain(source: Source, lexemes: Lexemes, error: UnexpectedInput) -> Diagnostic:
    """The diagnostic of an error that the parser met in an item."""
    mistake = _mistake(source, lexemes, error)
    return next((d for hint in HINTS if (d := hint(mistake))), None) or _plain(mistake)


def _mistake(source: Source, lexemes: Lexemes, error: UnexpectedInput) -> Mistake:
    start, end = lexemes[0].start, lexemes[-1].end
    match error:
        case UnexpectedCharacters():
            place = start + (error.pos_in_stream or 0)
        case UnexpectedToken() if error.token.type != "$END":
            place = start + (error.token.start_pos or 0)
        case _:
            place = end
    index = bisect_right(lexemes, place, key=lambda lexeme: lexeme.start) - 1 if place < end else len(lexemes)
    place = lexemes[index].start if place < end else end  # the parser may have taken `&` of `&&` before it stopped
    return Mistake(source, lexemes, index, _expected(source.text[start:end], place - start))


def _expected(text: str, place: int) -> frozenset[str]:
    """The terminals that could stand at a place up to which the text is right.

    lark's own error cannot say: by then its parser has reduced what could have gone on otherwise.
    """
    run = parser().parse_interactive(text)
    try:
        for token in run.lexer_thread.lex(run.parser_state):
            if token.start_pos is None or token.start_pos >= place:
                break
            run.feed_token(token)
    except UnexpectedInput:
        pass  # it is the one that is being explained
    return frozenset(terminal.lstrip("_") for terminal in run.accepts())


_SPELT = {
    "LPAR": "(",
    "RPAR": ")",
    "LSQB": "[",
    "RSQB": "]",
    "LBRACE": "{",
    "RBRACE": "}",
    "COMMA": ",",
    "COLON": ":",
    "EQUAL": "=",
    "DOT": ".",
    "ARROW": "->",
    "FAT_ARROW": "=>",
    "DOTS": "..",
}
_NAMED = {"NAME": "a name", "STRING": "a path in double quotes", "$END": "the end of the item"}


def _possibilities(m: Mistake) -> list[str]:
    """What could stand here, in words, the likeliest first; words that start an expression are summed up as one."""
    left = set(m.expected)
    found = []
    if m.wants_operand:
        found.append("an expression")
        left -= {"NAME", "NUMBER", "INF", "TRUE", "FALSE", "LPAR", "LSQB", "LBRACE", "MATCH", "NOT", "MINUS", "TILDE"}
        left -= {"BLOCKS", "COVER"}
    if m.ends_operand:
        found.append("an operator")
        left -= {"VBAR", "CARET", "AMPERSAND", "PLUS", "MINUS", "STAR", "FLOOR_DIVIDE", "PERCENT", "POWER", "COMPARE"}
        left -= {"IN", "NOT", "AND", "OR", "IF", "LPAR", "LSQB", "DOT"}
    if "TOKENS" in left:
        found.append("a type")
        left -= {"INT", "FLOAT", "BOOL", "TOKENS", "BLOCKS", "LPAR", "LSQB"}
    found += [_NAMED[t] for t in _NAMED if t in left]
    return found + sorted(f"`{_SPELT.get(t, t.lower())}`" for t in left - set(_NAMED))


def _plain(m: Mistake) -> Diagnostic:
    """Found and expected, for mistakes that no hint knows."""
    *others, last = _possibilities(m)
    expected = f"{', '.join(others)} or {last}" if others else last
    if m.found is None:
        kind = _KINDS.get(m.lexemes[0].text, "text")
        return m.report(Code.UNEXPECTED_END, f"the {kind} ends too early", m.past, f"expected {expected}")
    message = f"{quote(m.text())} cannot stand here"
    return m.report(Code.UNEXPECTED, message, label=f"expected {expected}")


_KINDS = {"pattern": "pattern", "fn": "function", "check": "check", "import": "import"}
