"""A first look at a text: its words and signs, and the items they make up.

All keywords are reserved and `pattern fn check import` start an item wherever they stand, so a text falls into items
before it is parsed, and a mistake in one item hides none in the next. The scan also knows signs of other languages
(`&&`, `:=`, …), for the messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from patternc.suggest import closest

ITEM_WORDS = ("pattern", "fn", "check", "import")
KEYWORDS = frozenset({
    "pattern", "fn", "check", "import", "as", "over", "where", "at", "for", "in", "not", "and", "or", "if", "else",
    "match", "blocks", "cover", "int", "float", "bool", "tokens", "True", "False", "inf", "with", "pool",
})  # fmt: skip
FOREIGN_ITEM_WORDS = {
    **dict.fromkeys(("def", "func", "fun", "function", "lambda", "mask"), "pattern"),
    **dict.fromkeys(("let", "var", "const"), "fn"),
    **dict.fromkeys(("assert", "test"), "check"),
    **dict.fromkeys(("from", "use", "include", "require"), "import"),
}
"""What items are called in other languages, and the word meant."""

OPENING = {"(": ")", "[": "]", "{": "}"}
CLOSING = {closing: opening for opening, closing in OPENING.items()}

_LEXEME = re.compile(
    r"""
      (?P<skip>   [ \t\r\n]+ | \#[^\n]* )
    | (?P<string> "[^"\n]*"? )
    | (?P<quoted> '[^'\n]*'? )
    | (?P<word>   [^\W\d]\w* )
    | (?P<number> (?: \d | \.\d ) (?: \w | \.(?=\d) )* )
    | (?P<sign>   <=> | === | !== | \.\.\. | \*\*= | //= | -> | => | <- | <= | >= | == | != | <> | =< | := | [-+*|&%/^]=
                | && | \|\| | << | >> | \*\* | // | \.\. | :: | \+\+ | . )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Lexeme:
    """A word, number, string or sign; `quoted` is a string in single quotes, which the language does not have."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


Lexemes = Sequence["Lexeme"]


def lexemes(text: str) -> Iterator[Lexeme]:
    """What stands between white space and comments, in order."""
    for m in _LEXEME.finditer(text):
        if m.lastgroup != "skip":
            yield Lexeme(m.lastgroup or "", m.group(), m.start())


def _first_on_line(text: str, lexeme: Lexeme) -> bool:
    line_start = text.rfind("\n", 0, lexeme.start) + 1
    return not text[line_start : lexeme.start].strip()


def meant_item_word(word: str) -> str | None:
    """The item keyword that a misspelt or foreign word stands for."""
    return FOREIGN_ITEM_WORDS.get(word) or (closest(word, ITEM_WORDS) if len(word) < 20 else None)


def _starts_item(text: str, found: Lexemes, i: int, depth: int) -> bool:
    """Whether an item begins here; inside brackets only a keyword that begins a line can (a bracket was not closed)."""
    word, after = found[i], found[i + 1] if i + 1 < len(found) else None
    if word.kind != "word":
        return False
    first_on_line = _first_on_line(text, word)
    if word.text in ITEM_WORDS:
        named = i > 0 and found[i - 1].text in ("pattern", "fn")
        return not _names_something(after, depth) and (first_on_line or (depth == 0 and not named))
    if depth > 0 or after is None or word.text in KEYWORDS or not first_on_line:
        return False
    misspelt = after.kind in ("word", "string") and after.text not in KEYWORDS
    return (misspelt and meant_item_word(word.text) is not None) or _is_bare_definition(found, i)


def _names_something(after: Lexeme | None, depth: int) -> bool:
    """Whether what follows an item keyword shows that it was used as a name: `pattern: int`, `check = 3`."""
    signs = "~-:" if depth == 0 else "~-"
    return after is not None and after.kind == "sign" and after.text not in OPENING and after.text not in signs


def _is_bare_definition(found: Lexemes, i: int) -> bool:
    """`name(…) = …` without a keyword, which is never part of an item."""
    if found[i + 1].text != "(" or (i > 0 and found[i - 1].text in ITEM_WORDS):
        return False
    depth = 0
    for j in range(i + 1, len(found)):
        depth += (found[j].text in OPENING) - (found[j].text in CLOSING)
        if depth == 0:
            return j + 1 < len(found) and found[j + 1].text == "="
    return False


def items(text: str, found: Lexemes) -> list[Lexemes]:
    """The lexemes of each item; words before the first item make one of their own."""
    starts: list[int] = []
    depth = 0
    for i, lexeme in enumerate(found):
        if lexeme.text in OPENING:
            depth += 1
        elif lexeme.text in CLOSING:
            depth = max(0, depth - 1)
        elif i == 0 or _starts_item(text, found, i, depth):
            starts.append(i)
            depth = 0
    if found and starts[:1] != [0]:
        starts.insert(0, 0)
    return [found[a:b] for a, b in pairwise([*starts, len(found)])]


def comments(text: str) -> list[tuple[int, int]]:
    """Where the comments of a text start and end."""
    found = (m for m in _LEXEME.finditer(text) if m.lastgroup == "skip")
    return [m.span() for m in found if text[m.start()] == "#"]
