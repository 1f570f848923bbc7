"""Diagnostics: what the compiler says about a program, and the one renderer of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from patternc.source import Span


class Code(StrEnum):
    """One code for each mistake; `codes.md` has a page for each. SPAT3xx are warnings."""

    # text and syntax (0xx), imports (05x)
    UNEXPECTED = "SPAT001"
    UNEXPECTED_END = "SPAT002"
    MISSING_COLON = "SPAT003"
    ASSIGN_FOR_EQUALS = "SPAT004"
    REVERSED_ARROW = "SPAT005"
    NUMBER_TOUCHES_LETTER = "SPAT006"
    BAD_NUMBER = "SPAT007"
    RESERVED_WORD = "SPAT008"
    UNCLOSED_BRACKET = "SPAT009"
    UNMATCHED_BRACKET = "SPAT010"
    COMPREHENSION_FILTER = "SPAT011"
    LIST_COMPREHENSION = "SPAT012"
    ONE_TUPLE = "SPAT013"
    UNTERMINATED_STRING = "SPAT014"
    UNEXPECTED_CHARACTER = "SPAT015"
    FOREIGN_OPERATOR = "SPAT016"
    MISPLACED_RANGE = "SPAT017"
    WITH_SCORE = "SPAT018"
    POOL = "SPAT019"
    CONTROL_CHARACTER = "SPAT020"
    NOT_UTF8 = "SPAT021"
    TEXT_TOO_LARGE = "SPAT022"
    TOO_DEEP = "SPAT023"
    MISSING_ELSE = "SPAT024"
    POSITIONAL_AFTER_NAMED = "SPAT025"
    MISSING_TYPE = "SPAT026"
    MISSING_COMMA = "SPAT027"
    ELSE_NOT_LAST = "SPAT028"
    NUMBER_TOO_LARGE = "SPAT029"
    FILE_NOT_FOUND = "SPAT050"
    IMPORT_OUTSIDE = "SPAT051"
    IMPORT_CYCLE = "SPAT052"
    IMPORT_CLASH = "SPAT053"
    IMPORT_FROM_TEXT = "SPAT054"
    IMPORT_BROKEN = "SPAT055"

    # names, types and units (1xx)
    UNKNOWN_NAME = "SPAT100"
    DUPLICATE_NAME = "SPAT101"
    SHADOWS_BUILTIN = "SPAT102"
    RESERVED_PARAMETER = "SPAT103"
    CYCLIC_DEFINITION = "SPAT104"
    UNKNOWN_PARAMETER = "SPAT105"
    DUPLICATE_ARGUMENT = "SPAT106"
    MISSING_ARGUMENT = "SPAT107"
    TOO_MANY_ARGUMENTS = "SPAT108"
    TYPE_MISMATCH = "SPAT109"
    UNIT_MISMATCH = "SPAT110"
    BAG_NOT_ALLOWED = "SPAT111"
    TENSOR_RANK = "SPAT112"
    TENSOR_DIMS = "SPAT113"
    NOT_CALLABLE = "SPAT114"
    NOT_INDEXABLE = "SPAT115"
    NO_ATTRIBUTE = "SPAT116"
    POSITION_NOT_ALLOWED = "SPAT117"
    TENSOR_NOT_ALLOWED = "SPAT118"
    INT_AS_CONDITION = "SPAT119"
    COMPARE_CHAIN_OR = "SPAT120"
    COORDINATE_IN_BLOCKS = "SPAT121"
    CALLER_UNITS = "SPAT122"
    UNKNOWN_PROPERTY = "SPAT123"
    UNKNOWN_PATTERN = "SPAT124"
    SAMPLE_SHARE = "SPAT125"
    INF_NOT_ALLOWED = "SPAT126"
    UNPACK_MISMATCH = "SPAT127"
    BATCH_MISPLACED = "SPAT128"
    NO_PATTERN = "SPAT129"
    PATTERN_EXPECTED = "SPAT130"

    # values (2xx): found when parameters, heads or the length are known
    DIVISION_BY_ZERO = "SPAT200"
    INDEX_OUT_OF_RANGE = "SPAT201"
    MATCH_GAP = "SPAT202"
    BAD_INF = "SPAT203"
    NEGATIVE_TOKENS = "SPAT204"
    INTEGER_OVERFLOW = "SPAT205"
    NEGATIVE_EXPONENT = "SPAT206"
    LOG_OF_NONPOSITIVE = "SPAT207"
    BAD_BLOCK_SIZE = "SPAT208"
    BAD_COUNT = "SPAT209"
    TOO_MANY_ITEMS = "SPAT210"
    PROGRAM_TOO_LARGE = "SPAT211"
    TOO_SLOW = "SPAT212"
    BAD_ARGUMENT = "SPAT213"
    GRID_LENGTH = "SPAT214"
    CHECK_WITHOUT_VALUE = "SPAT215"

    # warnings (3xx)
    KEY_BEFORE_QUERY = "SPAT300"
    UNUSED_NAME = "SPAT301"
    EMPTY_ROWS = "SPAT302"
    ALWAYS_FULL = "SPAT303"
    CONSTANT_CONDITION = "SPAT304"
    REDUNDANT_ARM = "SPAT305"
    COUNTED_TWICE = "SPAT306"

    # verdicts of checks (4xx)
    CHECK_REFUTED = "SPAT400"
    CHECK_UNKNOWN = "SPAT401"


@dataclass(frozen=True, slots=True)
class Related:
    """A second place that a message points to."""

    span: Span
    label: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One message. `message` is a sentence without a full stop; `label` stands under the span."""

    code: Code
    message: str
    span: Span
    label: str = ""
    related: tuple[Related, ...] = ()
    hints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """Facts that help, a counterexample among them."""

    @property
    def severity(self) -> str:
        return "warning" if self.code.startswith("SPAT3") else "error"


class SpatError(ValueError):
    """A program, or the values given to it, cannot be compiled; `diagnostics` says why."""

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic]) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = (
            (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        )
        super().__init__(render(self.diagnostics))


def in_order(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """By place in the text, without repetitions."""
    return sorted(dict.fromkeys(diagnostics), key=lambda d: (d.span.source.name, d.span.start, d.code))


# ------------------------------------------------------------------ rendering

_COLOURS = {"error": "31", "warning": "33", "place": "36", "bold": "1"}
_TAB = "    "
_MOST_MARKED = 120
"""Characters that are shown of a longer span."""


def _paint(text: str, colour: str, on: bool) -> str:
    return f"\x1b[1;{_COLOURS[colour]}m{text}\x1b[0m" if on and text else text


def _printable(text: str) -> str:
    """Text of the program for a terminal: no control character gets through."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text.replace("\t", _TAB))


def _excerpt(span: Span, label: str, mark: str, colour: str, on: bool, width: int) -> list[str]:
    """`line | text` and the underlined part with its label; a span of several lines shows the first."""
    number, column = span.source.position(span.start)
    line = span.source.line(number)
    length = max(1, min(span.end - span.start, len(line) - column + 1, _MOST_MARKED))
    first = max(0, column - 60)  # long lines are shown around the place
    before, inside = _printable(line[first : column - 1]), _printable(line[column - 1 : column - 1 + length])
    after = _printable(line[column - 1 + length : column - 1 + length + 60])
    gutter = _paint(" " * width + " |", "place", on)
    here = _paint(f"{number:>{width}} |", "place", on)
    under = " " * len(before) + _paint(mark * max(1, len(inside)) + (f" {label}" if label else ""), colour, on)
    return [gutter, f"{here} {before}{inside}{after}".rstrip(), f"{gutter} {under}"]


def _render_one(d: Diagnostic, on: bool) -> str:
    places = [Related(d.span, d.label), *d.related]
    located = bool(d.span.source.text) or bool(d.span.end)
    width = max(len(str(p.span.source.position(p.span.start)[0])) for p in places)
    lines = [f"{_paint(f'{d.severity}[{d.code}]', d.severity, on)}: {_paint(_printable(d.message), 'bold', on)}"]
    if located:
        for i, place in enumerate(places):
            line, column = place.span.source.position(place.span.start)
            if i == 0 or place.span.source is not places[i - 1].span.source:
                arrow = _paint(" " * width + ("-->" if i == 0 else ":::"), "place", on)
                lines.append(f"{arrow} {_printable(place.span.source.name)}:{line}:{column}")
            mark, colour = ("^", d.severity) if i == 0 else ("-", "place")
            lines += _excerpt(place.span, _printable(place.label), mark, colour, on, width)
    for kind, texts in (("note", d.notes), ("hint", d.hints)):
        for text in texts:
            first, *rest = text.splitlines()
            lines.append(f"{' ' * width} {_paint('=', 'place', on)} {_paint(kind, 'bold', on)}: {_printable(first)}")
            lines += [f"{' ' * (width + 5 + len(kind))}{_printable(more)}" for more in rest]
    return "\n".join(lines)


def render(diagnostics: Iterable[Diagnostic], *, colour: bool = False) -> str:
    """The messages for a terminal, in the order of the text, with a blank line between two."""
    return "\n\n".join(_render_one(d, colour) for d in in_order(diagnostics))


def _place(span: Span) -> dict[str, object]:
    line, column = span.source.position(span.start)
    end_line, end_column = span.source.position(span.end)
    return {
        "file": span.source.name,
        "start": {"offset": span.start, "line": line, "column": column},
        "end": {"offset": span.end, "line": end_line, "column": end_column},
    }


def as_json(d: Diagnostic) -> dict[str, object]:
    """The same message as data."""
    return {
        "code": str(d.code),
        "severity": d.severity,
        "message": d.message,
        **_place(d.span),
        "label": d.label,
        "related": [{**_place(r.span), "label": r.label} for r in d.related],
        "notes": list(d.notes),
        "hints": list(d.hints),
    }


def render_json(diagnostics: Iterable[Diagnostic]) -> str:
    """All messages as one JSON array, in the order of the text."""
    return json.dumps([as_json(d) for d in in_order(diagnostics)], indent=2)
