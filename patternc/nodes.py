"""What the nodes of all trees are: frozen dataclasses with slots, which compare by all fields but spans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform

from patternc.source import NOWHERE, Span

_PARTS: dict[type, tuple[str, ...]] = {}
_VALUES: dict[type, Callable[[Any], Any]] = {}
"""Gives what a node of the class compares by."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Spanned:
    """A node, which stands for a piece of text."""

    span: Span = field(default=NOWHERE, compare=False, repr=False, kw_only=True)

    def __eq__(self, other: object) -> bool:
        kind = self.__class__
        return _VALUES[kind](self) == _VALUES[kind](other) if other.__class__ is kind else NotImplemented

    def __hash__(self) -> int:
        return hash(_VALUES[self.__class__](self))

    def __repr__(self) -> str:
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr)
        return f"{self.__class__.__qualname__}({', '.join(shown)})"


_T = TypeVar("_T", bound=Spanned)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def node(kind: type[_T]) -> type[_T]:
    """Makes a class of nodes. It takes equality, hash and representation from `Spanned`: a fresh process would wait for
    them to be written anew for each of the many classes."""
    made = dataclass(frozen=True, slots=True, eq=False, repr=False)(kind)
    names = tuple(f.name for f in fields(made) if f.compare)
    _PARTS[made] = names
    _VALUES[made] = attrgetter(*names) if len(names) > 1 else lambda node: tuple(getattr(node, name) for name in names)
    return made


def parts(kind: type) -> tuple[str, ...]:
    """The names of the fields of a class of nodes by which it compares: all but spans, and how numbers are written."""
    return _PARTS[kind]
