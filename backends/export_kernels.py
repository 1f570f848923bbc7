"""The kernels of several structures as one text: what they share is there once, what differs has a number."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from patternc.backends.export_embed import replaced
from patternc.backends.export_reach import Reach, Statement, statements_of

WORDS = "patternc.backends.triton_words"
IMPORTS = "import triton\nimport triton.language as tl"


@dataclass
class Kernels:
    """Texts of kernels, one after the other. Names that are `taken` already are avoided."""

    taken: set[str] = field(default_factory=set)
    _variants: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """By name in its own source: the names and texts that have been put down."""

    def add(self, source: str, number: int) -> tuple[str, dict[str, str]]:
        """What a source adds, and the names of its functions and constants, each with what it is called here. A name
        that has another meaning already is given the source's number."""
        called: dict[str, str] = {}
        statements = [*_words(source), *statements_of(source)]
        return _joined(list(self._added(statements, number, called))), called

    def _added(self, statements: Sequence[Statement], number: int, called: dict[str, str]) -> Iterator[str]:
        for statement in statements:
            (name,) = statement.defines
            text = _renamed(statement.text.strip("\n"), {old: new for old, new in called.items() if old != new})
            variants = self._variants.setdefault(name, [])
            known = next((other for other, its in variants if its == text), None)
            called[name] = known or self._free(name, number)
            if known is None:
                variants.append((called[name], text))
                yield _renamed(text, {name: called[name]} if called[name] != name else {})

    def _free(self, name: str, number: int) -> str:
        found = name
        while found in self.taken:
            found = f"{name}_{number}" if found == name else f"{found}_"
        self.taken.add(found)
        return found


def _joined(texts: Sequence[str]) -> str:
    """One text after the other, functions with room around them."""
    joined = ""
    for before, text in zip(["", *texts], texts, strict=False):
        gap = "" if not before else "\n\n\n" if "def " in before + text else "\n"
        joined += gap + text
    return joined


def _words(source: str) -> Iterator[Statement]:
    """The functions of triton_words that a source imports, with those that they call."""
    reach = Reach()
    imports = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom) and node.module == WORDS]
    reach.add({alias.name for node in imports for alias in node.names}, [WORDS])
    for _, text in reach.sources():
        yield from statements_of(text)


def _renamed(text: str, names: dict[str, str]) -> str:
    return "".join(replaced(text, ast.parse(text), names)) if names else text
