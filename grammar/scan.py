"""A first look at a text: its words and signs, and the items they make up.

All keywords are reserved and `pattern fn check import` start an item wherever they stand, so a text falls into items
before it is parsed, and a mistake in one item hides none in the next. The scan also knows signs of other languages
(`&&`, `:=`, …), for the messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise

ITEM_WORDS = ("pattern", "fn", "check", "import")
KEYWORDS = frozenset(
    "pattern fn check import as over where at for in not and or if else match blocks cover int float bool tokens "
    "True False inf with pool".split()
)
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
                | && | \|\| | \*\* | // | \.\. | :: | \+\+ | . )
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
    close = get_close_matches(word, ITEM_WORDS, 1, 0.7) if len(word) < 20 else []
    return close[0] if close else FOREIGN_ITEM_WORDS.get(word)


def _starts_item(text: str, found: Lexeme, after: Lexeme | None, depth: int) -> bool:
    """Whether an item begins here; inside brackets only a keyword that begins a line can (a bracket was not closed)."""
    if found.kind != "word" or (after and after.kind == "sign" and after.text not in OPENING and after.text != "~"):
        return False
    if found.text in ITEM_WORDS:
        return depth == 0 or _first_on_line(text, found)
    misspelt = depth == 0 and after is not None and after.kind in ("word", "string") and after.text not in KEYWORDS
    return misspelt and _first_on_line(text, found) and meant_item_word(found.text) is not None


def items(text: str, found: Lexemes) -> list[Lexemes]:
    """The lexemes of each item; words before the first item make one of their own."""
    starts: list[int] = []
    depth = 0
    for i, lexeme in enumerate(found):
        if lexeme.text in OPENING:
            depth += 1
        elif lexeme.text in CLOSING:
            depth = max(0, depth - 1)
        elif i == 0 or _starts_item(text, lexeme, found[i + 1] if i + 1 < len(found) else None, depth):
            starts.append(i)
            depth = 0
    if found and starts[:1] != [0]:
        starts.insert(0, 0)
    return [found[a:b] for a, b in pairwise([*starts, len(found)])]
