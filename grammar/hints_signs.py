"""Hints for what stands wrong within a word or sign: strings, numbers, characters, operators of other languages."""

from __future__ import annotations

import re

from patternc.errors import Code, Diagnostic
from patternc.grammar.mistake import Mistake, quote

# ------------------------------------------------------------------ strings and characters


def string(m: Mistake) -> Diagnostic | None:
    """`"std/local` and `'std/local'`"""
    if m.found is None:
        return None
    text = m.found.text
    if m.found.kind == "string" and (len(text) == 1 or not text.endswith('"')):
        return m.report(
            Code.UNTERMINATED_STRING,
            "the string is not closed",
            label="starts here",
            hint=f"write {quote(text.rstrip() + chr(34))}: both quotes stand on one line",
        )
    if m.found.kind == "quoted" and m.wants("STRING"):
        path = text.strip("'")
        hint = f'write `"{path}"`'
        return m.report(Code.UNEXPECTED_CHARACTER, "strings stand in double quotes", label="single quotes", hint=hint)
    return None


_LOOKALIKES = {
    "≤": "<=", "≥": ">=", "≠": "!=", "＝": "=", "∈": "in", "∉": "not in", "∧": "and", "∨": "or", "¬": "not",
    "∪": "|", "∩": "&", "∖": "-", "⊕": "^", "∣": "|",
    "−": "-", "–": "-", "—": "-", "×": "*", "·": "*", "⋅": "*", "÷": "//",
    "²": "** 2", "³": "** 3", "∞": "inf", "→": "->", "←": "->", "⇒": "=>", "…": "..",
    "“": '"', "”": '"', "„": '"', "（": "(", "）": ")", "｛": "{", "｝": "}", "，": ",", "：": ":",
}  # fmt: skip
_SUPERFLUOUS = {
    ";": "nothing needs a `;` at its end: remove it",
    "\\": "a line may end anywhere: remove the `\\`",
    "?": "a choice is written `A if condition else B`",
    "@": "positions are multiplied by `*`, and there are no decorators",
    "$": "names stand for themselves: remove the `$`",
    "`": "names need no quotes: remove them",
    "'": "names need no quotes, and the string of an `import` stands in double quotes",
}


def character(m: Mistake) -> Diagnostic | None:
    """`≤`, `;`, `größe`"""
    if m.found is None or m.wants("STRING") or (m.text() == ";" and m.wants("COMMA")):
        return None
    text = m.found.text
    if m.found.kind == "string":
        message = "a string cannot stand here"
        hint = "strings are the paths of imports; names stand without quotes"
        return m.report(Code.UNEXPECTED, message, label="a string", hint=hint)
    if m.found.kind == "word" and not text.isascii():
        hint = "names are made of the letters A–Z and a–z, digits and `_`"
        return m.report(Code.UNEXPECTED_CHARACTER, f"the name {quote(text)} has letters outside ASCII", hint=hint)
    sign = text[0]
    if m.found.kind not in ("sign", "quoted") or (sign.isascii() and sign not in _SUPERFLUOUS):
        return None
    advice = f"write `{_LOOKALIKES[sign]}`" if sign in _LOOKALIKES else _SUPERFLUOUS.get(sign)
    message = f"the character {quote(sign)} has no meaning here"
    return m.report(Code.UNEXPECTED_CHARACTER, message, hint=advice)


# ------------------------------------------------------------------ numbers

_PLAIN = re.compile(r"(0|[1-9](_?\d)*)(\.\d(_?\d)*)?", re.ASCII)
_RADIX = re.compile(r"0[xXoObB][\da-fA-F_]+", re.ASCII)
_EXPONENT = re.compile(r"(\d{1,20}(\.\d{1,20})?)[eE](\d*)", re.ASCII)


def number(m: Mistake) -> Diagnostic | None:
    """`2k`, `1e5`, `0x10`, `.5`, `1__0`, `007`"""
    if m.found is None or m.found.kind != "number":
        return None
    text = m.found.text
    if re.search(r"[^\W\d_]", text):
        return _letters(m, text)
    if _PLAIN.fullmatch(text):
        return _point(m, text)
    if m.touches and text.startswith("."):
        return m.report(Code.BAD_NUMBER, "a `.` is followed by a name", hint="a coordinate of a grid is written `q.y`")
    message = f"{quote(text)} is not a number of this language"
    return m.report(Code.BAD_NUMBER, message, hint=_plain_hint(text))


def _letters(m: Mistake, text: str) -> Diagnostic:
    if exponent := _EXPONENT.fullmatch(text):
        hint = f"write {_without_exponent(m, exponent)}"
        return m.report(Code.NUMBER_TOUCHES_LETTER, "a number has no exponent", hint=hint)
    if _RADIX.fullmatch(text) and len(text) < QUOTED_RADIX:
        value = _radix_value(text)
        decimal = f"write `{value}`" if value is not None else None
        return m.report(Code.NUMBER_TOUCHES_LETTER, f"{quote(text)} is not a decimal number", hint=decimal)
    split = re.match(r"[\d_.]+", text)
    assert split is not None
    digits, letters = split.group().rstrip("_."), text[split.end() :]
    return m.report(
        Code.NUMBER_TOUCHES_LETTER,
        f"the number `{quote(digits)[1:-1]}` touches a letter",
        label="a number ends before a letter",
        hint=f"write {quote(f'{digits} * {letters}')} for a product; a name cannot start with a digit",
    )


QUOTED_RADIX = 30


def _radix_value(text: str) -> int | None:
    try:
        return int(text, 0)
    except ValueError:
        return None


def _without_exponent(m: Mistake, exponent: re.Match[str]) -> str:
    digits, _, power = exponent.groups()
    if power and int(power) <= 18:
        value = float(digits) * 10 ** int(power)
        return f"`{int(value):_}`" if value < 2**53 and value == int(value) else "the number with all its digits"
    if not power and m.text(1) == "-" and re.fullmatch("1[0-2]|[0-9]", m.text(2)):
        places = len(digits.partition(".")[2]) + int(m.text(2))
        return f"`{float(digits) / 10 ** int(m.text(2)):.{places}f}`"
    return "the number with all its digits"


def _point(m: Mistake, text: str) -> Diagnostic | None:
    if m.text(1) != "." or not m.wants_operand:
        return None
    message = "a number that has a point has digits after it"
    span = m.here.to(m.span(m.lexemes[m.index + 1]))
    return m.report(Code.BAD_NUMBER, message, span, hint=f"write {quote(text)} or {quote(text + '.0')}")


def _plain_hint(text: str) -> str:
    if text.startswith("."):
        return f"write {quote('0' + text)}: digits stand on both sides of the point"
    if text.count(".") > 1:
        return "a number has one point at most"
    if "__" in text or text.endswith("_") or "_." in text:
        return "single underscores may stand between digits, as in `1_000`"
    if text.startswith("0"):
        return f"write {quote(text.lstrip('0') or '0')}: a number has no leading zeros"
    return "numbers are written `12`, `1_000` or `0.9`, in the digits 0–9"


# ------------------------------------------------------------------ operators of other languages

_BOTH_AND = "write `and` between conditions, `&` between patterns"
_BOTH_OR = "write `or` between conditions, `|` between patterns"
_BOTH_NOT = "write `not` before a condition, `~` before a pattern"
_NO_ASSIGNMENT = "values do not change: write the new value out, or bind it to a new name after `where`"
_OPERATORS = {
    "&&": _BOTH_AND,
    "||": _BOTH_OR,
    "!": _BOTH_NOT,
    "/": "write `//`, which divides and rounds down",
    ":=": "write `=` to bind a name, `==` to compare",
    "===": "write `==`",
    "!==": "write `!=`",
    "<>": "write `!=`",
    "=<": "write `<=`",
    "<=>": "write one of `<`, `==` and `>`",
    "...": "write `..`: a range is half-open, `0..4` is 0, 1, 2, 3",
    "<<": "write `* 2 ** i`",
    ">>": "write `// 2 ** i`",
    "::": "write `.` for a name of an import, `:` before a type",
    "++": "write `+`",
    **dict.fromkeys(("+=", "-=", "*=", "|=", "&=", "%=", "^=", "//=", "**=", "/="), _NO_ASSIGNMENT),
}
_OPERATOR_WORDS = {
    "AND": _BOTH_AND,
    "OR": _BOTH_OR,
    "NOT": _BOTH_NOT,
    "xor": "write `^` between integers, `!=` between conditions",
    "mod": "write `%`",
    "div": "write `//`",
    "is": "write `==`",
    "implies": "write `not a or b`",
    "union": "write `|` between two patterns, `union(A for x in xs)` over a list",
    "intersect": "write `&`",
    "minus": "write `-`",
    "then": "a choice is written `A if condition else B`",
    "elif": "a choice is written `A if c else B if d else C`",
    "attends": "a set builder is written `{ q -> k : condition }`",
}


def operator(m: Mistake) -> Diagnostic | None:
    """`&&`, `!`, `/`, `:=`, and words such as `xor` where an operator should stand."""
    text = m.text()
    word = m.found is not None and m.found.kind == "word" and m.ends_operand
    hint = _OPERATOR_WORDS.get(text) if word else _OPERATORS.get(text)
    if hint is None and not (text == "=>" and m.wants("COMPARE") and not m.wants("FAT_ARROW")):
        return None
    message = f"{quote(text)} is not an operator of this language"
    return m.report(Code.FOREIGN_OPERATOR, message, hint=hint or "write `>=`")


# ------------------------------------------------------------------ arrows, ranges, `=` for `==`


def arrow(m: Mistake) -> Diagnostic | None:
    """`{ q <- k : … }`, and other signs where `->` should stand."""
    if not m.wants("ARROW") or m.found is None:
        return None
    query, key = m.text(-1), m.text(1)
    if m.text() == "<-":
        return m.report(
            Code.REVERSED_ARROW,
            "the arrow of a set builder points from the query to the key",
            label='read `->` as "attends to"',
            hint=f"write `{{ {quote(query)[1:-1]} -> {quote(key or 'k')[1:-1]} : … }}`",
        )
    if m.text() in ("=>", "-", "--", ",", ">", "→", ":", "-=") or m.found.kind == "word":
        message = f"`->` should stand between the query and the key, not {quote(m.text())}"
        return m.report(Code.UNEXPECTED, message, hint="a set builder is written `{ q -> k : condition }`")
    return None


def range_(m: Mistake) -> Diagnostic | None:
    """`0..4` elsewhere than behind `in` and in match arms."""
    if m.text() not in ("..", "..."):
        return None
    if m.text() == ".." and m.text(-2) == "..":
        return m.report(Code.MISPLACED_RANGE, "a range has two ends and no step", hint="test the step with `%`")
    hint = "write `x in 0..4`, without parentheses around the range; values are listed `[0, 1, 2, 3]`"
    return m.report(Code.MISPLACED_RANGE, "a range stands only after `in` and in the arms of `match`", hint=hint)


def assignment(m: Mistake) -> Diagnostic | None:
    """`q = k` in a condition."""
    if m.text() == "=" and m.wants("COMPARE"):
        hint = "write `==` to compare" + ("; a name is bound after `where`" if m.inner == "" else "")
        return m.report(Code.ASSIGN_FOR_EQUALS, "`=` does not compare", label="binds a name, elsewhere", hint=hint)
    if m.text() == "==" and m.wants("EQUAL") and not m.wants("COMPARE"):
        return m.report(Code.UNEXPECTED, "`==` compares; a value is given with `=`", hint="write `=`")
    return None


SIGN_HINTS = (string, number, arrow, operator, character, range_)
