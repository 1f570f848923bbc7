"""Fenced blocks of Markdown files, with the words behind their language."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from patternc.cli.values import parse_value

ROOT = Path(__file__).parent.parent

_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    words: tuple[str, ...]
    text: str
    place: str
    """File and line, for messages."""

    @property
    def wrong(self) -> bool:
        """Whether the block shows a mistake."""
        return "wrong" in self.words

    def option(self, name: str) -> str | None:
        """`value` of a word `name=value`."""
        return next((word.partition("=")[2] for word in self.words if word.startswith(f"{name}=")), None)

    @property
    def arguments(self) -> dict[str, object]:
        """The words `name=value` as arguments of `patternc.compile`."""
        pairs = (word.partition("=") for word in self.words if "=" in word)
        return {name: value if name == "pattern" else parse_value(value) for name, _, value in pairs}


def blocks(path: Path, text: str | None = None) -> list[Block]:
    """All fenced blocks of a Markdown text that name a language."""
    text = path.read_text(encoding="utf-8") if text is None else text
    return [
        Block(found[1], tuple(found[2].split()), found[3], f"{path.name}:{text.count(chr(10), 0, found.start()) + 1}")
        for found in _FENCE.finditer(text)
    ]
