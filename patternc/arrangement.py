"""How a program is to be computed at any length: its heads' terms, and the layout of each.

The passes that run when a program is compiled map arrangements to arrangements (passes/); plans are made from the last.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from patternc import ir
from patternc.plan import CONSECUTIVE, Layout


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a pattern that has its own layouts.

    Its multiplicity is `pattern`, on the tokens that its layouts hold: of a listed layout those that are in the set
    `listed_queries` (which depends on q alone) or `listed_keys` (on k alone), which are None for other layouts.
    """

    pattern: ir.Pattern
    queries: Layout = CONSECUTIVE
    keys: Layout = CONSECUTIVE
    listed_queries: ir.Pattern | None = None
    listed_keys: ir.Pattern | None = None


@dataclass(frozen=True, slots=True)
class HeadClass:
    """Heads of one pattern, which is closed but for n, and the terms that it is split into: the multiplicities of the
    terms add up to the pattern's, and where that is a set the terms are disjoint. Between the passes `terms` and
    `layout` the terms of a set are only alternatives, which may overlap."""

    heads: tuple[int, ...]
    pattern: ir.Pattern
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A program for so many heads; every head is in one class."""

    program: ir.Program
    heads: int
    classes: tuple[HeadClass, ...]

    def whole(self) -> Arrangement:
        """The same heads with one term each, in consecutive tokens."""
        return replace(self, classes=tuple(replace(own, terms=(Term(own.pattern),)) for own in self.classes))
