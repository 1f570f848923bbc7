"""Arrangements at lengths: the classes of heads with n in their patterns, checked for integers that are too large.

What is the same at every length is found once for an arrangement, for a length may be new at every call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from patternc import ir
from patternc.analysis.evaluate import Sharing, shared
from patternc.analysis.overflow import check_overflow, surely_fits
from patternc.arrangement import Arrangement, HeadClass, Term
from patternc.plan import CONSECUTIVE
from patternc.rewrite import walk
from patternc.specialise import bind, specialise

KEPT = 32
"""Arrangements of which what is known is kept."""
_kept: OrderedDict[int, Binding] = OrderedDict()
"""By the identity of the arrangement, which is kept too."""


@dataclass(frozen=True, eq=False)
class Bound:
    """An arrangement at a length."""

    classes: tuple[HeadClass, ...]
    """Those whose terms are the same at this length are one; heads of a sample differ, for its hash takes the head."""
    sharing: Sharing
    """In which equal patterns are the same object."""
    _known: dict[frozenset[str], tuple[HeadClass, ...]] = field(default_factory=dict)

    def known(self, tensors: frozenset[str]) -> tuple[HeadClass, ...]:
        """The classes where the run-time tensors of these names are there: with conditions instead of those lists that
        hang on others."""
        if tensors not in self._known:
            self._known[tensors] = tuple(
                replace(own, terms=tuple(_without_lists(term, tensors) for term in own.terms)) for own in self.classes
            )
        return self._known[tensors]


def binding(arrangement: Arrangement) -> Binding:
    """The same object as long as it is kept."""
    found = _kept.pop(id(arrangement), None) or Binding(arrangement)
    _kept[id(arrangement)] = found
    if len(_kept) > KEPT:
        _kept.popitem(last=False)
    return found


class Binding:
    """An arrangement, and what is known of it for all lengths."""

    def __init__(self, arrangement: Arrangement) -> None:
        self.arrangement = arrangement
        every = (node for own in arrangement.classes for part in patterns(own) for node in walk(part))
        self._steady = not any(isinstance(node, ir.Var) and node.name == "n" for node in every)
        """Whether the patterns are the same at every length."""
        self._bound: Bound | None = None
        self._fitting = 0
        """Up to this length all integers fit into 64 bits."""

    @cached_property
    def whole(self) -> Arrangement:
        """`Arrangement.whole`, or the arrangement itself if that is equal."""
        whole = self.arrangement.whole()
        return self.arrangement if whole == self.arrangement else whole

    def at(self, n: int) -> Bound:
        """At a length; SpatError if the program does not admit it."""
        program = self.arrangement.program
        if program.grids or program.tensors:
            bind(replace(program, pattern=ir.Union(())), n)
        bound = self._bound or _bound(self.arrangement, n)
        if n > self._fitting:
            self._check(bound, n)
        if self._steady:
            self._bound = bound
        return bound

    def _check(self, bound: Bound, n: int) -> None:
        """SpatError for integers that are too large at the length."""
        tensors, ahead = self.arrangement.program.tensors, 1 << (n - 1).bit_length()
        found = {id(own.pattern): own.pattern for own in bound.classes}.values()
        if self._steady and all(surely_fits(pattern, tensors, ahead) for pattern in found):
            self._fitting = ahead
            return
        for pattern in found:
            check_overflow(pattern, tensors, n, bound.sharing)


def patterns(own: HeadClass) -> Iterator[ir.Pattern]:
    """Of a class of heads, its terms and their lists."""
    yield own.pattern
    for term in own.terms:
        yield from (p for p in (term.pattern, term.listed_queries, term.listed_keys) if p is not None)


def _bound(arrangement: Arrangement, n: int) -> Bound:
    sharing = Sharing()
    found: dict[Any, HeadClass] = {}
    for own in arrangement.classes:
        pattern, *rest = (shared(specialise(p, {"n": n}), sharing) for p in patterns(own))
        left = iter(rest)
        terms = tuple(_with_patterns(term, left) for term in own.terms)
        made = HeadClass(own.heads, pattern, terms)
        drawn = any(isinstance(node, ir.Sample) for part in patterns(made) for node in walk(part))
        for heads in [(h,) for h in own.heads] if drawn else [own.heads]:
            key = heads if drawn else None, tuple(_identity(term) for term in terms), reads(pattern)
            same = found.get(key)
            found[key] = replace(made, heads=heads if same is None else tuple(sorted(same.heads + heads)))
    return Bound(tuple(sorted(found.values(), key=lambda own: own.heads)), sharing)


def _with_patterns(term: Term, left: Iterator[ir.Pattern]) -> Term:
    """The term with other patterns, in the order of `patterns`."""
    return replace(
        term,
        pattern=next(left),
        listed_queries=next(left) if term.listed_queries is not None else None,
        listed_keys=next(left) if term.listed_keys is not None else None,
    )


def _identity(term: Term) -> tuple[Any, ...]:
    """Equal for terms of the same shared patterns under the same layouts."""
    return term.queries, term.keys, id(term.pattern), id(term.listed_queries), id(term.listed_keys)


def _without_lists(term: Term, tensors: frozenset[str]) -> Term:
    q, k = term.listed_queries, term.listed_keys
    if q is not None and not reads(q) <= tensors:
        term = replace(term, pattern=ir.Product((term.pattern, q)), queries=CONSECUTIVE, listed_queries=None)
    if k is not None and not reads(k) <= tensors:
        term = replace(term, pattern=ir.Product((term.pattern, k)), keys=CONSECUTIVE, listed_keys=None)
    return term


def reads(pattern: ir.Pattern) -> frozenset[str]:
    """The run-time tensors that a pattern reads."""
    return frozenset(node.tensor for node in walk(pattern) if isinstance(node, ir.Read))
