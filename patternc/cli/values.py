"""Values of parameters on the command line, in the literal syntax of the language.

`12`, `1_000`, `0.9`, `True`, `False`, `inf`, a minus sign before a number, lists `[…]` and tuples `(…)` of those.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

Value = int | float | bool | list["Value"] | tuple["Value", ...]

_DIGITS = r"\d+(?:_\d+)*"
_TOKEN = re.compile(
    rf"\s*(?:(?P<float>{_DIGITS}\.{_DIGITS}(?![\w.]))|(?P<int>{_DIGITS}(?![\w.]))|(?P<name>[a-z]\w*)|(?P<mark>[-()\[\],]))",
    re.ASCII | re.IGNORECASE,
)
_NAMES: dict[str, Value] = {"True": True, "False": False, "inf": math.inf}
_LENGTH_LIMIT = 100_000
_DEPTH_LIMIT = 20


def parse_value(text: str) -> Value:
    """The value that `text` writes.

    Raises ValueError, with the place, for everything else, for integers outside 64 bits, and for more than 20 brackets
    within each other.
    """
    if len(text) > _LENGTH_LIMIT:
        raise ValueError(f"a value of {len(text):,} characters is too long (at most {_LENGTH_LIMIT:,})")
    reader = _Reader(text)
    value = reader.value(0)
    reader.end()
    return value


def parse_assignment(text: str) -> tuple[str, Value]:
    """Name and value of `NAME=VALUE`. Raises ValueError as `parse_value` does, and for what is not a name."""
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or not name.isidentifier():
        raise ValueError(f"{_shown(text)} is not NAME=VALUE, such as window=1_024")
    return name, parse_value(value)


def write_value(value: Value) -> str:
    """The literal for a value, as `parse_value` reads it."""
    match value:
        case list() | tuple():
            inner = ", ".join(map(write_value, value))
            return f"[{inner}]" if isinstance(value, list) else f"({inner})"
        case float() if math.isinf(value):
            return "inf" if value > 0 else "-inf"
    return str(value)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


@dataclass
class _Reader:
    """A place in the text, and what may stand there."""

    text: str
    at: int = 0

    def value(self, depth: int) -> Value:
        if depth > _DEPTH_LIMIT:
            raise ValueError(f"more than {_DEPTH_LIMIT} brackets within each other in {_shown(self.text)}")
        kind, word = self.take()
        match kind, word:
            case ("int", _):
                return self.integer(word)
            case ("float", _):
                return float(word.replace("_", ""))
            case ("name", "True" | "False" | "inf"):
                return _NAMES[word]
            case ("mark", "-"):
                return self.negative(depth)
            case ("mark", "["):
                return self.items("]", depth)[0]
            case ("mark", "("):
                return self.group(depth)
        return self.fail(word)

    def integer(self, word: str) -> int:
        digits = word.replace("_", "").lstrip("0") or "0"
        if len(digits) > 19 or int(digits) >= 2**63:
            raise ValueError(f"{_shown(word)} does not fit into 64 bits")
        return int(digits)

    def negative(self, depth: int) -> Value:
        value = self.value(depth + 1)
        if isinstance(value, bool | list | tuple):
            raise ValueError(f"'-' stands before a number only, in {_shown(self.text)}")
        return -value

    def items(self, close: str, depth: int) -> tuple[list[Value], bool]:
        """The values up to the bracket `close`, and whether there was a comma; one may also end the list."""
        values: list[Value] = []
        comma = False
        while self.peek() != close:
            values.append(self.value(depth + 1))
            if self.peek() != ",":
                break
            self.take()
            comma = True
        _, word = self.take()
        if word != close:
            self.fail(word, f"',' or '{close}'")
        return values, comma

    def group(self, depth: int) -> Value:
        values, comma = self.items(")", depth)
        if len(values) == 1 and not comma:
            return values[0]
        if len(values) < 2:
            raise ValueError(f"a tuple has two values or more, in {_shown(self.text)}")
        return tuple(values)

    def peek(self) -> str:
        found = _TOKEN.match(self.text, self.at)
        return found[0].strip() if found else ""

    def take(self) -> tuple[str, str]:
        """The kind of the next token, empty if there is none, and its text."""
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            return "", self.text[self.at :].strip()
        self.at = found.end()
        return str(found.lastgroup), found[0].strip()

    def end(self) -> None:
        rest = self.text[self.at :].strip()
        if rest:
            self.fail(rest, "the end")

    def fail(self, found: str, expected: str = "a number, True, False, inf, a list or a tuple") -> Value:
        what = _shown(found) if found else "nothing"
        raise ValueError(f"expected {expected}, found {what} in {_shown(self.text)}")
