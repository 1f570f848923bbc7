"""The layouts of a pattern's terms: which arms are computed together, and in which order of queries and keys."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from patternc import ir
from patternc.arrangement import Arrangement, HeadClass, Term
from patternc.errors import SpatError
from patternc.fold import is_empty
from patternc.machine import OBJECTIVES, PRICES, Objective
from patternc.passes.arm import arms_of
from patternc.passes.assignment import Assignment, Choice
from patternc.passes.disjoint import apart, terms_of
from patternc.passes.estimate import (
    FEWEST_TILES,
    LOOKED,
    PLAIN,
    Budget,
    Listing,
    Reference,
    Side,
    Way,
    reference_length,
)
from patternc.passes.nature import MOST_NODES, is_set, size
from patternc.passes.radices import Radix
from patternc.passes.search import Search, widest
from patternc.passes.simplify import Simplifier
from patternc.plan import LISTED, TILE_K, TILE_Q, Layout

WORK = 1.0e8
"""Nodes times tiles that may be estimated for one program: a bound on time."""
ALIKE = 0.02
"""A choice is taken over from another class of heads if it costs no more than this share above what it costs there."""
FOLLOWING = 0.1
"""The share of a search that is set aside for a class that may follow another one."""
MANY = 8
"""Up to so many classes are looked at closely."""
TOLD = 8
"""Choices that are told of."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Ways that were compared, one for each term, and their estimated cost in pairs per query."""

    ways: tuple[Way, ...]
    cost: float
    launches: int


@dataclass(frozen=True, slots=True)
class Story:
    """Why a class of heads is arranged as it is."""

    heads: tuple[int, ...]
    radices: tuple[Radix, ...]
    arms: tuple[ir.Pattern, ...]
    n: int
    """The length at which costs were estimated; 0 if there was nothing to compare."""
    plain: float
    """The cost of the whole pattern in consecutive tokens."""
    trials: tuple[Trial, ...]
    """The best that were compared; the first was taken."""
    reason: str


@dataclass(frozen=True, slots=True)
class Precedent:
    """What was chosen for a class, for others whose arms have other radices in the same places."""

    choice: Choice
    plain: float
    strides: tuple[int, ...]
    head: int


@dataclass(frozen=True, slots=True)
class Aim:
    """What layouts are chosen for: tiles of so many queries and keys, the time of a kernel or nothing but the pairs
    that it computes, and the length at which they are compared (None: the grid's size, or one of reference)."""

    tile: tuple[int, int] = (TILE_Q, TILE_K)
    objective: Objective = "time"
    length: int | None = None

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}; found {self.objective!r}")


DEFAULT = Aim()


def layout(arrangement: Arrangement, aim: Aim = DEFAULT) -> Arrangement:
    """Chooses groups of arms, and the layouts of each; makes the terms of sets disjoint.

    Precondition: the terms of each class are its arms, as `terms` leaves them, in consecutive tokens.
    """
    return study(arrangement, aim)[0]


def study(arrangement: Arrangement, aim: Aim = DEFAULT) -> tuple[Arrangement, tuple[Story, ...]]:
    """`layout`, and why it chose as it did, for each class of heads."""
    studies = [_Study(c, arrangement, aim) for c in arrangement.classes]
    earlier: dict[object, Precedent] = {}
    spare, classes, stories = WORK, [], []
    for i, own in enumerate(studies):
        new = {later.shape for later in studies[i:]} - earlier.keys()
        budget = own.search.reference.budget
        budget.left = spare / max(1.0, len(new) + FOLLOWING * (len(studies) - i))
        spare -= budget.left
        arranged, story = own.result(earlier.get(own.shape))
        spare += budget.left
        if own.precedent is not None:
            earlier[own.shape] = own.precedent
        classes.append(arranged)
        stories.append(story)
    return replace(arrangement, classes=tuple(classes)), tuple(stories)


class _Study:
    """The choice for one class of heads."""

    def __init__(self, c: HeadClass, arrangement: Arrangement, aim: Aim) -> None:
        program = arrangement.program
        self.c, self.tensors = c, {tensor.name: tensor for tensor in program.tensors}
        self.simplifier = Simplifier(self.tensors)
        patterns = [self.simplifier(term.pattern) for term in c.terms] if size(c.pattern) <= MOST_NODES else []
        self.arms = arms_of(patterns, self.tensors)
        n = aim.length or reference_length(program, aim.tile)
        most = LOOKED if len(arrangement.classes) <= MANY else FEWEST_TILES
        reference = Reference(n, aim.tile, c.heads[0], program.tensors, Budget(0.0), most)
        self.search = Search(self.arms, reference, PRICES[aim.objective], bag=not is_set(c.pattern))
        self.assignment = Assignment(self.search)
        radices = [sorted(arm.radices) for arm in self.arms]
        self.strides = tuple(radix.stride for own in radices for radix in own)
        self.shape = tuple(tuple(radix.sides for radix in own) for own in radices)
        """What classes have in common that may be arranged alike."""
        self.precedent: Precedent | None = None
        """The choice, once it is made, if it may serve others."""

    def result(self, earlier: Precedent | None) -> tuple[HeadClass, Story]:
        """The class with its terms, and why. What was chosen for a class like it is taken if it costs the same here."""
        if not any(self.search.seeds(arm) or arm.lists for arm in self.arms):
            return self._told([], 0.0, "no radix and no list to follow")
        try:
            return self._compared(earlier)
        except SpatError:
            return self._told([], 0.0, f"the program does not admit n = {self.search.reference.n}")

    def _compared(self, earlier: Precedent | None) -> tuple[HeadClass, Story]:
        plain = self.assignment.choice([(Way(), self.search.all)])
        if plain.cost == math.inf:
            return self._told([], 0.0, "estimates would take too long")
        if earlier is not None and (followed := self._followed(earlier, plain)):
            return self._told(followed, plain.cost, f"as for head {earlier.head}")
        choices = sorted([plain, *self._choices()], key=Choice.rank)
        if choices[0].search is self.search:  # else its lists are of arms made disjoint
            self.precedent = Precedent(choices[0], plain.cost, self.strides, self.c.heads[0])
        best = choices[0].cost < plain.cost
        return self._told(choices, plain.cost, "the least cost" if best else "nothing else is worth it")

    def _followed(self, earlier: Precedent, plain: Choice) -> list[Choice]:
        """The choice of another class with the radices of this one, if it costs no more, or saves no less."""
        strides = {1: 1, **dict(zip(earlier.strides, self.strides, strict=True))}
        arms = zip(earlier.choice.search.arms, self.arms, strict=True)
        lists = {old: new for a, b in arms for old, new in ((a.queries, b.queries), (a.keys, b.keys)) if old and new}
        sides = [side for way in earlier.choice.ways for side in (way.queries, way.keys)]
        if not all(side.layout.stride in strides if side.listed is None else side.listed in lists for side in sides):
            return []
        groups = [(self._like(way, strides, lists), group) for way, group in earlier.choice.groups]
        choice = self.assignment.choice(groups) if len({way for way, _ in groups}) == len(groups) else plain
        bound = max(earlier.choice.cost, earlier.choice.cost / earlier.plain * plain.cost) * (1 + ALIKE)
        return sorted([choice, plain], key=Choice.rank) if choice.cost <= bound else []

    def _like(self, way: Way, strides: Mapping[int, int], lists: Mapping[Listing, Listing]) -> Way:
        """The way with other strides and lists."""

        def like(side: Side, tile: int) -> Side:
            if side.listed is not None:
                return Side(LISTED, lists[side.listed])
            stride = strides[side.layout.stride]
            return Side(Layout(stride, min(side.layout.width, widest(stride, tile)))) if stride > 1 else PLAIN

        return Way(*map(like, (way.queries, way.keys), self.search.reference.tile))

    def _choices(self) -> list[Choice]:
        each = [self._alone(i) for i in sorted(self.search.all)]
        choices = self.assignment.choices(each, [])
        return [*choices, *self._apart(each)] if len(self.arms) > 1 and not self.search.bag else choices

    def _alone(self, i: int) -> list[Way]:
        """The ways for one arm, best first; lists are tried beside the best boxes."""
        alone, arm = frozenset([i]), self.arms[i]
        boxes = self.search.climb(alone, [Way(), *self.search.seeds(arm)])
        return self.search.ranked(alone, [*boxes, *self.search.lists(arm, boxes[:2])])

    def _apart(self, each: list[list[Way]]) -> Iterator[Choice]:
        """The choices for arms that are made disjoint first, if some of them can be listed then."""
        before = {listing.pattern for arm in self.arms for listing in arm.listings}
        boxes = [way for ways in each for way in ways[:2] if way.boxed]
        for patterns in apart([ways[0] for ways in each], self.search, self.simplifier):
            arms = arms_of([pattern for pattern in patterns if not is_empty(pattern)], self.tensors)
            if any(listing.pattern not in before for arm in arms for listing in arm.listings):
                search = Search(arms, self.search.reference, self.search.prices, bag=False, disjoint=True)
                ranked = (search.ranked(frozenset([i]), [*boxes, *search.lists(arm, [])]) for i, arm in enumerate(arms))
                yield from Assignment(search).choices(list(ranked), boxes)

    def _told(self, choices: list[Choice], plain: float, reason: str) -> tuple[HeadClass, Story]:
        radices = sorted({radix for arm in self.arms for radix in arm.radices})
        trials = tuple(Trial(choice.ways, choice.cost, choice.launches) for choice in choices[:TOLD])
        n = self.search.reference.n if choices else 0
        story = Story(self.c.heads, tuple(radices), tuple(arm.pattern for arm in self.arms), n, plain, trials, reason)
        return replace(self.c, terms=self._terms(choices[0]) if choices else (Term(self.c.pattern),)), story

    def _terms(self, choice: Choice) -> tuple[Term, ...]:
        way = choice.ways[0]
        if len(choice.ways) == 1 and way.boxed:
            return (Term(self.c.pattern, way.queries.layout, way.keys.layout),)
        return terms_of(choice.groups, choice.search, self.simplifier)
