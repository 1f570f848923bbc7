"""Hints for what a form lacks or does not allow: brackets, commas, colons, types, `else`, filters."""

from __future__ import annotations

from patternc.errors import Code, Diagnostic, Related
from patternc.grammar.mistake import Mistake, quote
from patternc.grammar.scan import CLOSING, KEYWORDS, OPENING

_TERMINALS = {"(": "RPAR", "[": "RSQB", "{": "RBRACE"}

# ------------------------------------------------------------------ brackets


def unclosed(m: Mistake) -> Diagnostic | None:
    """`(q - k % 2`, and `(a | b]`: shows the bracket, and where its partner should have come."""
    if not m.brackets or m.brackets[-1] not in m.never_closed:
        return None
    opened, found = m.brackets[-1], m.text()
    fits = m.wants(_TERMINALS[opened.text]) and not (m.starts_operand and m.wants("COMMA") and found != "{")
    if found == "=":
        fits = fits and (_in_parameters(m) or m.lexemes[m.lexemes.index(opened) - 1].text == "over")
    if m.found and found not in CLOSING and found != "where" and not fits:
        return None
    what = f"before {quote(found)}" if m.found else "at the end"
    return m.report(
        Code.UNCLOSED_BRACKET,
        f"`{opened.text}` is never closed",
        m.span(opened),
        "opened here",
        related=(Related(m.here, f"`{OPENING[opened.text]}` is missing {what}"),),
    )


def unmatched(m: Mistake) -> Diagnostic | None:
    """`q - k) % 2`"""
    opening = CLOSING.get(m.text())
    if opening is None or m.inner == opening or (m.brackets and m.brackets[-1] in m.never_closed):
        return None
    message, label = f"`{m.text()}` closes nothing", f"no `{opening}` is open here"
    related = (Related(m.span(m.brackets[-1]), "this is open"),) if m.brackets else ()
    return m.report(Code.UNMATCHED_BRACKET, message, label=label, related=related, hint="remove it")


# ------------------------------------------------------------------ comprehensions and tuples


def comprehension(m: Mistake) -> Diagnostic | None:
    """`for … if`, `[x for x in xs]`, two `for`s."""
    loops = [lexeme for lexeme in m.inside if lexeme.text == "for"]
    if m.text() == "if" and loops:
        return _filter(m)
    if m.text() != "for":
        return None
    if loops:
        hint = "nest them: `any(any(… for y in ys) for x in xs)`"
        return m.report(Code.UNEXPECTED, "a comprehension has one `for`", label="a second one", hint=hint)
    if m.inner in ("[", "{"):
        hint = "write `any(…)`, `all(…)`, `union(…)` or `sum(…)` around the `for`, without brackets"
        message, label = "there are no list comprehensions", "a `for` in a list"
        return m.report(Code.LIST_COMPREHENSION, message, label=label, hint=hint)
    message = "a `for` stands only in `any(…)`, `all(…)`, `union(…)` and `sum(…)`"
    hint = "write `union(A for x in xs)` for patterns, `any(c for x in xs)` for conditions"
    return m.report(Code.LIST_COMPREHENSION, message, label="not in a call of one of these", hint=hint)


def _filter(m: Mistake) -> Diagnostic:
    function = m.lexemes[m.lexemes.index(m.brackets[-1]) - 1].text if m.brackets else ""
    hints = {
        "any": "put the condition into the element: `any(condition and … for x in xs)`",
        "all": "put the condition into the element: `all(not condition or … for x in xs)`",
    }
    default = "put the condition into the element: `(A if condition else empty) for x in xs`"
    message, hint = "a comprehension has no filter", hints.get(function, default)
    return m.report(Code.COMPREHENSION_FILTER, message, label="`if` behind `for … in …`", hint=hint)


def one_tuple(m: Mistake) -> Diagnostic | None:
    """`(4,)` and `()`"""
    if m.text() != ")" or m.text(-1) not in (",", "("):
        return None
    if m.text(-1) == "," and sum(lexeme.text == "," for lexeme in m.inside) == 1:
        span = m.span(m.brackets[-1]).to(m.here)
        message = "a tuple has two items or more"
        return m.report(Code.ONE_TUPLE, message, span, "one item", hint="write the item alone, or a list `[…]`")
    if m.text(-1) == "(" and m.wants_operand and not m.ends_operand:
        span = m.span(m.brackets[-1]).to(m.here)
        return m.report(Code.UNEXPECTED, "an expression is missing between the parentheses", span, "nothing in here")
    return None


# ------------------------------------------------------------------ parameters and types

_TYPE_WORDS = {
    "integer": "int", "Int": "int", "long": "int", "number": "int", "i32": "int", "i64": "int",
    "double": "float", "Float": "float", "real": "float", "f32": "float", "f64": "float",
    "boolean": "bool", "Bool": "bool", "mask": "bool", "token": "tokens", "block": "blocks",
    "list": "[int]", "List": "[int]", "tuple": "(int, int)", "Tuple": "(int, int)",
    "tensor": "float[batch, n]", "Tensor": "float[batch, n]",
}  # fmt: skip


def type_(m: Mistake) -> Diagnostic | None:
    """A parameter without a type, and words that are no types."""
    if m.wants("COLON") and m.inner == "(" and _in_parameters(m):
        name = quote(m.text(-1))
        if m.text() in (",", ")", "=") or m.found is None:
            hint = f"write {quote(f'{m.text(-1)}: int')}, or `tokens`, `float`, `bool`, `[int]`, …"
            span = m.span(m.lexemes[m.index - 1])
            return m.report(Code.MISSING_TYPE, f"the parameter {name} has no type", span, hint=hint)
        return m.report(Code.MISSING_COLON, f"a `:` is missing after {name}", m.past, "here", hint="write `name: type`")
    if m.text() == "," and m.inner == "[" and m.wants("RSQB") and not m.ends_operand:
        hint = "a list has any number of items of one type, `[int]`; a tuple is written `(int, int)`"
        return m.report(Code.UNEXPECTED, "the type of a list has one type in it", hint=hint)
    if not m.wants("TOKENS") or m.wants_operand:
        return None
    if m.found is None or m.text() in (",", ")", "=", "]"):
        return m.report(Code.MISSING_TYPE, "a type is missing", m.past, "here", hint=_TYPES)
    meant = _TYPE_WORDS.get(m.text())
    return m.report(Code.UNEXPECTED, f"{quote(m.text())} is not a type", hint=f"write `{meant}`" if meant else _TYPES)


_TYPES = "types are `int`, `float`, `bool`, `tokens`, `blocks`, lists `[T]`, tuples `(T, U)` and tensors `float[n, n]`"


def _in_parameters(m: Mistake) -> bool:
    return m.lexemes[0].text in ("pattern", "fn") and m.lexemes[2:3] == [m.brackets[0]] and len(m.brackets) == 1


# ------------------------------------------------------------------ colons and commas


def colon(m: Mistake) -> Diagnostic | None:
    """A set builder, axis or check without its `:`."""
    if not m.wants("COLON"):
        return None
    if m.inner == "{" and not m.ends_operand:
        every = "; for all keys write `full`" if m.text() == "}" else ""
        hint = f"write `{{ q -> k : condition }}`{every}"
        instead = m.text() in ("|", ",", "=>", "=", "where", "if")
        span, label = (m.here, "instead of `:`") if instead else (m.past, "here")
        return m.report(Code.MISSING_COLON, "a `:` is missing before the condition", span, label, hint=hint)
    if m.inner == "(":
        return m.report(Code.MISSING_COLON, "a `:` is missing after the name of the axis", m.past, "here")
    if m.lexemes[0].text == "check" and not m.brackets and (m.starts_operand or m.found is None or m.text() == "="):
        hint = "write `check pattern : property, …`, with properties such as `causal` or `row <= 4`"
        return m.report(Code.MISSING_COLON, "a `:` is missing before the properties", m.past, "here", hint=hint)
    return None


def comma(m: Mistake) -> Diagnostic | None:
    """`f(a b)`, `[1 2]`, `match h { 0 => a 1 => b }`, `check p : causal nonempty`"""
    if not m.wants("COMMA") or m.found is None or not (m.brackets or m.lexemes[0].text == "check"):
        return None
    if m.text() == ";":
        return m.report(Code.MISSING_COMMA, "`;` separates nothing here", hint="write `,`")
    if not (m.starts_operand or m.text() == "else") or _operator_word_before(m):
        return None
    if m.inner == "(" and m.ends_operand and not _in_list_of_parentheses(m):
        return None
    between = f"between {quote(m.text(-1))} and {quote(m.text())}"
    return m.report(Code.MISSING_COMMA, f"a `,` is missing {between}", m.past, "here", notes=_operator_note(m))


def _operator_note(m: Mistake) -> tuple[str, ...]:
    return ("or an operator is",) if m.ends_operand and m.inner != "{" else ()


def _operator_word_before(m: Mistake) -> bool:
    return m.text(-1) in ("match", "not", "and", "or", "if", "in")


def _in_list_of_parentheses(m: Mistake) -> bool:
    """Whether the parentheses are those of a call, parameters, axes or a tuple, rather than a group."""
    opened = m.lexemes.index(m.brackets[-1])
    before = m.lexemes[opened - 1] if opened else None
    call = before is not None and before.kind == "word" and before.text not in KEYWORDS - {"over"}
    return call or any(lexeme.text == "," for lexeme in m.inside)


# ------------------------------------------------------------------ choices


def choice(m: Mistake) -> Diagnostic | None:
    """`A if c` without `else`, `if c then A`, and what goes wrong in `match`."""
    if m.wants("ELSE") and m.wants("AND", "OR") and m.text() != "then" and not m.starts_operand:
        hint = "write `A if condition else B`; for no keys at all, `else empty`"
        if m.inner == "{":
            hint = "write `A if condition else B`; conditions are joined by `and`"
        return m.report(Code.MISSING_ELSE, "`if` has no `else`", m.past, "`else` should follow", hint=hint)
    if m.text() == "else" and m.ends_operand and not m.wants("ELSE"):
        return m.report(Code.UNEXPECTED, "there is no `if` before this `else`", hint="write `A if condition else B`")
    if m.text() == "if" and m.wants_operand:
        hint = "the condition stands in the middle: `A if condition else B`"
        return m.report(Code.UNEXPECTED, "an expression does not start with `if`", hint=hint)
    if m.wants("FAT_ARROW") and m.found and m.text() in (":", "->", "=", "|", ",", "then"):
        hint = "an arm of a match is written `label => pattern`"
        return m.report(Code.UNEXPECTED, f"`=>` should stand here, not {quote(m.text())}", hint=hint)
    if m.wants("LBRACE") and m.wants("VBAR") and m.found:
        hint = "write `match value { 0 => A, 1..4 => B, else => C }`"
        message, label = "the arms of a match stand in braces", "`{` should stand here"
        return m.report(Code.UNEXPECTED, message, label=label, hint=hint)
    if m.text() == "}" and m.text(-1) == "{" and m.wants("ELSE"):
        return m.report(Code.UNEXPECTED, "a match has at least one arm", hint="write `0 => A` or `else => B`")
    return None


def separator(m: Mistake) -> Diagnostic | None:
    """`,` between conditions, `:` behind the name of an argument, a `blocks` without parentheses."""
    if m.text() == "," and m.inner == "{" and m.ends_operand and not m.wants("COMMA"):
        return m.report(Code.UNEXPECTED, "a set builder has one condition", hint="join conditions by `and`")
    if m.text() == ":" and m.inner == "(" and m.wants("EQUAL"):
        hint = f"write {quote(f'{m.text(-1)} = …')}"
        return m.report(Code.UNEXPECTED, "an argument is named with `=`", label="not with `:`", hint=hint)
    if m.text(-1) in ("blocks", "cover") and m.wants("LPAR") and not m.wants_operand:
        message = f"the size after `{m.text(-1)}` stands in parentheses"
        return m.report(Code.UNEXPECTED, message, hint=f"write `{m.text(-1)}(size) A`")
    return None


FORM_HINTS = (unmatched, comprehension, one_tuple, type_, choice, colon, comma, separator)
