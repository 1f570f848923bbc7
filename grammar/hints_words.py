"""Hints for words: keywords as names, misspelt keywords, what items consist of, operands without operators."""

from __future__ import annotations

from patternc.errors import Code, Diagnostic
from patternc.grammar.mistake import Mistake, quote
from patternc.grammar.scan import ITEM_WORDS, KEYWORDS, meant_item_word
from patternc.source import Span
from patternc.suggest import closest

# ------------------------------------------------------------------ reserved words


_STRUCTURE = frozenset(["if", "else", "match", "not", "and", "or", "in", "for", "where"])
_AFTER_A_NAME = frozenset(["+", "-", "*", "//", "%", "<", "<=", ">", ">=", "==", "!=", ")", ",", "}", "]", "and", "or"])


def reserved(m: Mistake) -> Diagnostic | None:
    """`with score`, `pool(s)`, and keywords where a name should stand."""
    text = m.text()
    if text not in KEYWORDS:
        return None
    bare = m.wants("NAME") and not m.wants_operand
    named = (m.wants("NAME") and m.text(1) in (":", "=", "->", ".")) or bare
    if text == "with" and not named:
        message = "`with` is reserved for score modifiers, which this version does not have"
        hint = "a pattern says which keys are attended to; add a bias to the scores outside of it"
        return m.report(Code.WITH_SCORE, message, label="reserved", hint=hint)
    if text == "pool" and not named:
        message = "`pool` is reserved for pooled key axes, which this version does not have"
        hint = "`blocks(B) A` reads a pattern on block indices; `cover(B) A` rounds one out to blocks"
        return m.report(Code.POOL, message, label="reserved", hint=hint)
    used = m.wants_operand and text not in _STRUCTURE and m.text(1) in _AFTER_A_NAME
    if not named and not used:
        return None
    return _reserved(m, text, m.here)


def reserved_argument(m: Mistake) -> Diagnostic | None:
    """`f(match = 3)`: words with which an expression may start are noticed late."""
    if m.text() != "=" or m.text(-1) not in KEYWORDS or m.text(-2) not in ("(", ","):
        return None
    return _reserved(m, m.text(-1), m.span(m.lexemes[m.index - 1]))


def _reserved(m: Mistake, text: str, span: Span) -> Diagnostic:
    message = f"`{text}` is a word of the language and cannot be a name"
    return m.report(Code.RESERVED_WORD, message, span, "reserved", hint=f"choose another name, such as `{text}_`")


# ------------------------------------------------------------------ items

_ITEM_FORMS = {
    "pattern": "write `pattern name(parameter: type = default) = { q -> k : condition }`",
    "fn": "write `fn name(parameter: type) = expression`; values are bound in a pattern, after `where`",
    "check": "write `check name : property, …`",
    "import": 'write `import "file.spat"` or `import "std/name"`',
}


def item(m: Mistake) -> Diagnostic | None:
    """What starts no item: misspelt and foreign words, loose expressions."""
    if m.index > 0 or m.found is None:
        return None
    text = m.text()
    meant = meant_item_word(text) if m.found.kind == "word" else None
    message = f"a file consists of `pattern`, `fn`, `check` and `import`, not of {quote(text)}"
    if meant and closest(text, ITEM_WORDS) == meant:
        return m.report(Code.UNEXPECTED, message, hint=f"did you mean `{meant}`?")
    hints = [_ITEM_FORMS[meant] if meant else _named(m)]
    if m.source.name == "<text>" and "\n" not in m.source.text.strip():
        hints.append("the path of a file ends in `.spat`, the name of a library file starts with `std/`")
    return m.report(Code.UNEXPECTED, message, hints=tuple(hints))


def _named(m: Mistake) -> str:
    if m.text(1) == "(" and any(lexeme.text == "=" for lexeme in m.lexemes):
        return f"write `pattern {quote(m.text())[1:-1]}(…) = …`"
    return "values are bound in a pattern, after `where`" if m.text(1) == "=" else "write `pattern name() = …`"


def head(m: Mistake) -> Diagnostic | None:
    """What stands wrong between the keyword of an item and its `=`."""
    word = m.lexemes[0].text
    if m.wants("STRING"):
        path = quote("".join(lexeme.text for lexeme in m.lexemes[1:] if lexeme.text != "as"))[1:-1]
        hint = f'write `import "{path or "file"}.spat"` or `import "std/{path or "name"}"`'
        if "/" in path or "." in path:
            hint = f'write `import "{path}"`'
        return m.report(Code.UNEXPECTED, "the path of an import is a string", hint=hint)
    if word == "import" and m.text(-1) == "as" and m.found and m.found.kind == "string":
        return m.report(Code.UNEXPECTED, "the name after `as` stands without quotes", hint="remove the quotes")
    if word == "check" and m.wants("NAME") and not m.wants_operand and not m.brackets and m.text(-1) in (":", ","):
        hint = "properties are `causal`, `nonempty`, `symmetric`, `set`, `row <= 4`, `density < 0.5`, `equals(Q)`"
        return m.report(Code.UNEXPECTED, "a property is missing", m.here if m.found else m.past, "here", hint=hint)
    if word not in ("pattern", "fn") or m.brackets:
        return None
    if m.index == 1:
        return m.report(Code.UNEXPECTED, f"the {_KINDS[word]} has no name", m.here, hint=_ITEM_FORMS[word])
    if m.index == 2 and m.wants("LPAR"):
        hint = f"write `{word} {quote(m.text(-1))[1:-1]}() = …`: the parentheses stand even without parameters"
        return m.report(Code.UNEXPECTED, "the parentheses of the parameters are missing", m.past, "here", hint=hint)
    return None


_KINDS = {"pattern": "pattern", "fn": "function"}


def equals(m: Mistake) -> Diagnostic | None:
    """No `=` before the meaning of a pattern, a binding, or a value after `at`."""
    if not m.wants("EQUAL") or m.wants("VBAR") or m.found is None:
        return None
    if m.text() in (":", "->", "=>", "is"):
        return m.report(Code.UNEXPECTED, f"`=` should stand here, not {quote(m.text())}", hint="write `=`")
    where = f"after {quote(m.text(-1))}"
    return m.report(Code.UNEXPECTED, f"a `=` is missing {where}", m.past, "here")


# ------------------------------------------------------------------ expressions


def bindings(m: Mistake) -> Diagnostic | None:
    """Bindings without `where`, or with something between them."""
    if m.brackets or m.lexemes[0].text not in ("pattern", "fn") or not m.ends_operand:
        return None
    bound = any(lexeme.text == "where" for lexeme in m.lexemes[: m.index])
    if m.text() in (",", ";", "and") and bound:
        hint = f"remove the `{m.text()}`: each binding starts with its name"
        return m.report(Code.UNEXPECTED, f"bindings are not separated by `{m.text()}`", hint=hint)
    if m.text() == "where" and bound:
        return m.report(Code.UNEXPECTED, "a definition has one `where`", label="a second one", hint="remove it")
    if m.found and m.found.kind == "word" and m.text(1) == "=" and not bound and m.text() not in KEYWORDS:
        hint = f"write `where {quote(m.text())[1:-1]} = …`"
        return m.report(Code.UNEXPECTED, "bindings come after `where`", m.past, "`where` is missing here", hint=hint)
    return None


_INNER_WORDS = ("not", "if", "else", "in", "and", "or", "where", "over", "at", "as", "for", "match", "blocks", "cover")
_FOREIGN = {
    "lambda": "functions have names: `fn name(parameter: type) = expression`",
    "return": "a pattern is its expression: write it after `=`",
    "let": "names are bound after `where`",
    "if": "a choice is written `A if condition else B`",
    "def": "functions are defined beside patterns: `fn name(parameter: type) = expression`",
    "case": "an arm of a match is written `label => pattern`",
}


def misspelt(m: Mistake) -> Diagnostic | None:
    """Two words side by side, one of them nearly a keyword: `wher a = …`, `blok(4) A`, `q nto in xs`."""
    if m.found is None or not (m.ends_operand or m.wants("WHERE", "AT", "COLON")):
        return None
    if m.found.kind == "word" and m.text() not in KEYWORDS:
        wanted = [w for w in _INNER_WORDS if m.wants(w.upper())]
        if meant := _near(m.text(), wanted):
            return m.report(Code.UNEXPECTED, f"{quote(m.text())} cannot stand here", hint=f"did you mean `{meant}`?")
    before = _callee(m)
    word = m.lexemes[before].text
    if word in KEYWORDS or not (m.starts_operand or m.text() == "("):
        return None
    hint = _FOREIGN.get(word)
    if hint is None and (meant := _near(word, ("match", "not") if before == m.index - 1 else ("blocks", "cover"))):
        hint = f"did you mean `{meant}`?"
    if hint is None:
        return None
    message = f"{quote(word)} is not a word of the language"
    return m.report(Code.UNEXPECTED, message, m.span(m.lexemes[before]), hint=hint)


def _near(word: str, words: list[str] | tuple[str, ...]) -> str | None:
    return closest(word, words) if 3 <= len(word) < 20 else None


def _callee(m: Mistake) -> int:
    """The place of the name before here, or before the parentheses that end here."""
    i, depth = m.index - 1, 0
    while i > 0 and (m.lexemes[i].text in (")", "]") or depth):
        depth += (m.lexemes[i].text in (")", "]")) - (m.lexemes[i].text in ("(", "["))
        i -= 1
    return i


def set_builder(m: Mistake) -> Diagnostic | None:
    """`{ q == k }`, `{ 0 <= q - k }`, `{}`"""
    if m.inner != "{" or not (m.wants("ARROW") or (m.wants("NAME") and not m.wants_operand)):
        return None
    hint = "a set builder is written `{ q -> k : condition }`"
    span = m.here if m.found else m.past
    return m.report(Code.UNEXPECTED, "the query and the key of a set builder are missing" if m.text(-1) == "{" else
                    "a set builder names the query and the key first", span, hint=hint)  # fmt: skip


def juxtaposed(m: Mistake) -> Diagnostic | None:
    """Two expressions without an operator between them: `2 k`, `near hub`, `(a) (b)`."""
    if not m.ends_operand or not (m.starts_operand or m.text() in ("(", "[")):
        return None
    message = f"an operator is missing between {quote(m.text(-1))} and {quote(m.text())}"
    return m.report(Code.UNEXPECTED, message, m.past, "here", hint=_operator_hint(m))


def _operator_hint(m: Mistake) -> str | None:
    before = m.at(-1)
    if before and before.kind == "number" and m.found and m.found.kind == "word":
        return f"write `{quote(before.text)[1:-1]} * {quote(m.text())[1:-1]}` for a product"
    return "patterns are joined by `|`, `&`, `+` or `-`, conditions by `and` or `or`"


def operand(m: Mistake) -> Diagnostic | None:
    """`a | ` and `a + * b`: an expression is missing."""
    if not m.wants_operand or m.index == 0:
        return None
    before = f"after {quote(m.text(-1))}"
    if m.found is None:
        return m.report(Code.UNEXPECTED_END, f"an expression is missing {before}", m.past, "here")
    if m.text() == "+":
        return m.report(Code.UNEXPECTED, "there is no `+` before a number", hint="remove it")
    return m.report(Code.UNEXPECTED, f"an expression is missing {before}", label=f"found {quote(m.text())}")


ITEM_HINTS = (item, bindings, reserved, head)
WORD_HINTS = (misspelt, equals, set_builder, juxtaposed, operand)
